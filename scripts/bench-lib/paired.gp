# SPDX-License-Identifier: GPL-2.0-or-later
# What block.gp and net.gp share: histograms over the loads of a table of paired.py.
# The caller sets "table" and the output.
set datafile separator ","
set datafile missing NaN
set style data histograms
set style histogram errorbars gap 1 lw 1
set style fill solid 0.8 border -1
set grid ytics
set key below
set xtics rotate by -30
file = table . ".csv"
envs = system("awk -F, '/^#/ || /^load,/ { next } !seen[$2]++ { print $2 }' " . file . " | paste -sd ' '")
# An environment's figure with the smallest and largest, one line for each load.
cells(env, name) = sprintf("< awk -F, -v env='%s' -v name=%s '/^load,/ { for (i = 1; i <= NF; i++) c[$i] = i } $2 == env { print $1 \",\" $c[name \"_median\"] \",\" $c[name \"_min\"] \",\" $c[name \"_max\"] }' %s", env, name, file)
one(env, name) = sprintf("< awk -F, -v env='%s' -v name=%s '/^load,/ { for (i = 1; i <= NF; i++) c[$i] = i } $2 == env { print $1 \",\" $c[name] }' %s", env, name, file)
