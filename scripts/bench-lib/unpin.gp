# SPDX-License-Identifier: GPL-2.0-or-later
# unpin.csv -> unpin.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1200,500 dynamic font "sans,12"
set output "unpin.svg"
set multiplot layout 1,3
set logscale x
set grid
set key below
set xlabel "unpin interval, ms"
set xrange [30:12000]
policies = "lazy timeout"
pick(policy, name) = strcol("policy") eq policy ? column(name) : NaN
off(name) = real(system(sprintf("awk -F, -v name=%s '/^policy,/ { for (i = 1; i <= NF; i++) c[$i] = i } $1 == \"off\" { print $c[name] }' unpin.csv", name)))

set yrange [0:*]
set title "per second"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "pin_requests_per_s_median")) \
         with linespoints title "pin requests, ".p, \
     for [p in policies] "" using "interval_ms":(pick(p, "repins_per_s_median")) \
         with linespoints dashtype 2 title "blocks pinned again, ".p
set title "pinned, mean, MiB"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "pinned_mean_mib")) \
         with linespoints title p, off("pinned_mean_mib") dashtype 3 title "off"
set title "I/Os a second, of those without unpinning"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "rate_of_off_median")): \
         (pick(p, "rate_of_off_min")):(pick(p, "rate_of_off_max")) with yerrorlines title p
unset multiplot
