# SPDX-License-Identifier: GPL-2.0-or-later
# smart.csv -> smart.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1000,450 dynamic font "sans,12"
set output "smart.svg"
set multiplot layout 1,2
set style data histogram
set style fill solid 0.7
set grid ytics
set xtics rotate by -45
set yrange [0:*]
label = "sprintf('%s %s', strcol('block'), strcol('has'))"
set title "exits per 1000 DMA maps"
plot "smart.csv" using "exits_per_1000":xtic(@label) title "exits"
set title "pinned, MiB (peak and mean)"
plot "smart.csv" using "pinned_peak_mib":xtic(@label) title "peak", \
     "" using "pinned_mean_mib" title "mean"
unset multiplot
