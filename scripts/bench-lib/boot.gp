# SPDX-License-Identifier: GPL-2.0-or-later
# boot.csv, boot-extrapolated.csv, boot-sparse.csv -> boot.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1200,900 dynamic font "sans,12"
set output "boot.svg"
set multiplot layout 2,2
set grid
set key top left
set logscale x 2
envs = "`awk -F, '/^#/ || /^env,/ { next } !seen[$1]++ { print $1 }' boot.csv | paste -sd ' '`"
pick(env, name) = strcol("env") eq env && column("memory_mib") >= 256 ? column(name) : NaN

set title "time to ready (exec to the monitor's answer)"
set xlabel "memory of the VM, GiB"
set ylabel "seconds"
set yrange [0:*]
plot for [i = 1:words(envs)] "boot.csv" using (column("memory_mib") / 1024): \
     (pick(word(envs, i), "ready_s_median")) with linespoints lc i title word(envs, i)

set title "in times of an assignment with next to nothing to pin;\ndashed: a straight line drawn on, not measured"
set ylabel "times"
set logscale y
set yrange [0.1:200]
# What an assignment takes with the pages of this environment.
own(env) = real(system("awk -F, -v env='" . env . "' '/^env,/ { for (i = 1; i <= NF; i++) c[$i] = i } " . \
    "$1 == (env ~ /[+]4k$/ ? \"static+4k\" : \"static\") && $c[\"memory_mib\"] == 128 { print $c[\"ready_s_median\"] }' boot.csv"))
far(env, own) = strcol("env") eq env ? column("ready_s") / own : NaN
set label 1 "the paper, 128 GB: up to 73" at 128, 73 right offset -1, 0.7
set object 1 circle at 128, 73 size graph 0.008 fillstyle solid
plot for [i = 1:words(envs)] "boot.csv" using (column("memory_mib") / 1024): \
         (pick(word(envs, i), "times_own")) with linespoints lc i notitle, \
     for [i = 1:words(envs)] "boot-extrapolated.csv" using "gib":(far(word(envs, i), own(word(envs, i)))) \
         with lines lc i dashtype 2 notitle
unset label 1
unset object 1

set title "pinned at most, until the guest's drivers are up"
set ylabel "MiB"
set yrange [1:*]
plot for [i = 1:words(envs)] "boot.csv" using (column("memory_mib") / 1024): \
     (pick(word(envs, i), "peak_mib")) with linespoints lc i notitle
unset logscale y

set title "sparse memory, vfio-user, no guest"
set ylabel "seconds to ready"
set yrange [0:*]
plot for [env in "static coiommu"] "boot-sparse.csv" using "gib": \
     (strcol("env") eq env ? column("ready_s_median") : NaN) with linespoints title env
unset multiplot
