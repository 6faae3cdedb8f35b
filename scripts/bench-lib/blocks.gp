# SPDX-License-Identifier: GPL-2.0-or-later
# blocks.csv -> blocks.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1000,450 dynamic font "sans,12"
set output "blocks.svg"
set multiplot layout 1,2
set style data histogram
set style fill solid 0.7
set grid ytics
set xtics rotate by -45
set yrange [0:*]
label = "sprintf('%s/%s %s', strcol('unit'), strcol('block'), strcol('pages'))"
set title "pinned, MiB (peak and mean)"
plot "blocks.csv" using "pinned_peak_mib":xtic(@label) title "peak", \
     "" using "pinned_mean_mib" title "mean"
set title "per 1000 DMA maps"
set logscale y
set yrange [0.01:*]
plot "blocks.csv" using "exits_per_1000":xtic(@label) title "exits", \
     "" using "calls_per_1000" title "pin and unpin calls"
unset multiplot
