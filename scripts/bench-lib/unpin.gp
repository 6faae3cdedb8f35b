# SPDX-License-Identifier: GPL-2.0-or-later
# unpin.csv, unpin-mixing.csv -> unpin.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1200,900 dynamic font "sans,12"
set output "unpin.svg"
set multiplot layout 2,2
set logscale x
set grid
set xlabel "unpin interval, ms"
set xrange [30:12000]
policies = "lazy timeout"
pick(policy, name) = strcol("policy") eq policy ? column(name) : NaN
off(name) = real(system(sprintf("awk -F, -v name=%s '/^policy,/ { for (i = 1; i <= NF; i++) c[$i] = i } $1 == \"off\" { print $c[name] }' unpin.csv", name)))

set yrange [0:*]
set key top right
set title "per second"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "pin_requests_per_s_median")): \
         (pick(p, "pin_requests_per_s_min")):(pick(p, "pin_requests_per_s_max")) \
         with yerrorlines title "pin requests, ".p, \
     for [p in policies] "" using "interval_ms":(pick(p, "repins_per_s_median")) \
         with linespoints dashtype 2 title "blocks pinned again, ".p
set key bottom right
set title "pinned, MiB"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "pinned_mib_median")): \
         (pick(p, "pinned_mib_min")):(pick(p, "pinned_mib_max")) with yerrorlines title p, \
     off("pinned_mib_median") dashtype 3 title "off"
set title "I/Os a second, of those without unpinning"
plot for [p in policies] "unpin.csv" using "interval_ms":(pick(p, "rate_of_off_median")): \
         (pick(p, "rate_of_off_min")):(pick(p, "rate_of_off_max")) with yerrorlines title p
unset logscale x
set autoscale x
set xlabel "seconds since the VM's start"
set key at graph 0.97, 0.4
set title "the page cache becomes mixed (lazy, 1 s)"
plot "unpin-mixing.csv" using "at_s":"pinned_mib" with linespoints title "pinned, MiB", \
     "" using "at_s":"pin_requests_per_s" with linespoints title "pin requests per second"
unset multiplot
