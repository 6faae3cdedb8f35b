# SPDX-License-Identifier: GPL-2.0-or-later
# memory.csv -> memory.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1200,900 dynamic font "sans,12"
set output "memory.svg"
set multiplot layout 2,1
set grid
set key below
set xlabel "seconds since QEMU's start"
file = "memory.csv"
envs = "`awk -F, '/^#/ || /^env,/ { next } !seen[$1]++ { print $1 }' memory.csv | paste -sd ' '`"
pick(env, name) = strcol("env") eq env ? column(name) : NaN
# When coIOMMU's VM enters each phase; which there are depends on the devices.
phases = "`awk -F, '$1 == "coiommu" && $2 != "start" && !seen[$2]++ { print $2 }' memory.csv | paste -sd ' '`"
begin(phase) = real(system("awk -F, '$1 == \"coiommu\" && $2 == \"" . phase . "\" { print $3; exit }' " . file))
do for [phase in phases] {
    set arrow from first begin(phase), graph 0 to first begin(phase), graph 1 nohead dashtype 3
    set label phase at first begin(phase), graph 0.96 offset 0.4, 0
}

set title "pinned, MiB (phases: those of coiommu)"
set logscale y
set yrange [0.1:*]
plot for [i = 1:words(envs)] file using "second":(pick(word(envs, i), "pinned_mib")) \
         with lines lc i lw 2 title word(envs, i), \
     file using "second":(pick("coiommu", "mapped_mib")) with lines lc "black" dashtype 2 \
         title "in use, as coiommu's thread saw it"
unset logscale y
set yrange [0:*]
set title "free memory of the host, MiB"
plot for [i = 1:words(envs)] file using "second":(pick(word(envs, i), "host_free_mib")) \
     with lines lc i lw 2 title word(envs, i)
unset multiplot
