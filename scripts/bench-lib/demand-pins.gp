# SPDX-License-Identifier: GPL-2.0-or-later
# demand-pins-time.csv, demand-pins-idle.csv -> demand-pins.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1000,450 dynamic font "sans,12"
set output "demand-pins.svg"
set multiplot layout 1,2
set grid
loads = system("awk -F, '!/^#/ && FNR > 1 && $1 !~ /load/ && !seen[$1]++ { gsub(/\"/, \"\"); print $1 }' demand-pins-time.csv")

set title "exits per 1000 DMA maps, from a load's start"
set xlabel "seconds"
set logscale y
set yrange [0.001:*]
set key below
exits(load) = strcol("load") eq load ? \
    1000.0 * column("exits") / column("maps") + 0.001 : NaN
plot for [load in loads] "demand-pins-time.csv" \
         using "second":(exits(load)) with linespoints title load, \
     1 with lines dashtype 2 linecolor "black" title "target"

set title "after all loads together"
set xlabel "unpin intervals since the load's end"
set ylabel "MiB"
unset logscale y
set yrange [0:*]
after(name) = strcol("after") eq "all" ? column(name) : NaN
plot "demand-pins-idle.csv" using "intervals":(after("pinned_mib")) \
         with linespoints title "pinned", \
     "" using "intervals":(after("mapped_blocks_mib")) \
         with linespoints title "in blocks with mapped pages"
unset multiplot
