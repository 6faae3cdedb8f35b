# SPDX-License-Identifier: GPL-2.0-or-later
# bursts.csv -> bursts.svg
set datafile separator ","
set terminal svg size 1000,450 dynamic font "sans,12"
set output "bursts.svg"
set multiplot layout 1,2
set style data histogram
set style fill solid 0.7
set grid ytics
set yrange [0:*]
label = "sprintf('%s, ahead: %s', strcol('block'), strcol('ahead'))"
set xtics rotate by -45
set title "exits per 1000 DMA maps"
plot "bursts.csv" using "exits_per_1000":xtic(@label) title "exits"
set title "blocks"
plot "bursts.csv" using "demand_pin_blocks":xtic(@label) title "pinned on demand", \
     "" using "ahead_used" title "pinned ahead and used", \
     "" using "ahead_unused" title "pinned ahead in vain"
unset multiplot
