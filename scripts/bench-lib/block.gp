# SPDX-License-Identifier: GPL-2.0-or-later
# block.csv, block-pins.csv -> block.svg
set terminal svg size 1200,1000 dynamic font "sans,12"
set output "block.svg"
table = "block"
load here . "/paired.gp"
set multiplot layout 2,2
set yrange [0:*]
set title "rate, of static pinning in the same round"
plot for [env in envs] cells(env, "rate_of_static") using 2:3:4:xtic(1) title env
set title "exits for each I/O, host interrupts left out"
plot for [env in envs] cells(env, "exits_per_io") using 2:3:4:xtic(1) notitle
set style histogram clustered gap 1
set title "microseconds of CPU for each I/O"
plot for [env in envs] one(env, "cpu_us_per_io") using 2:xtic(1) notitle
set title "coiommu: pins on demand from the start"
set xtics norotate
set xlabel "seconds since QEMU's start"
plot for [name in "hot cached"] "block-pins.csv" using "second": \
     (strcol("load") eq name ? column("pins") : NaN) with lines lw 2 \
     title name eq "hot" ? "into the same buffers" : "through the page cache"
unset multiplot
