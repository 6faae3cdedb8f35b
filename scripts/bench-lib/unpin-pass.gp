# SPDX-License-Identifier: GPL-2.0-or-later
# unpin-pass.csv -> unpin-pass.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1000,450 dynamic font "sans,12"
set output "unpin-pass.svg"
set multiplot layout 1,2
set logscale xy
set yrange [1:100000]
set ylabel "one pass, microseconds"
set key below
set grid
file = "unpin-pass.csv"
base = "`awk -F, '$1 == "timeout" { print $4; exit }' unpin-pass.csv`"
top = "`awk -F, '$1 == "timeout" && $3 > t { t = $3 } END { print t }' unpin-pass.csv`"
pick(policy, placement, name, value) = \
    strcol("policy") eq policy && strcol("placement") eq placement && \
    strcol(name) eq value ? column("pass_us_median") : NaN

set title "against the size of the VM, ".base." blocks pinned"
set xlabel "GiB"
set xrange [0.5:2000]
plot for [where in "dense spread"] file \
         using "vm_gib":(pick("timeout", where, "blocks", base)) \
         with linespoints title "all blocks looked at, ".where, \
     for [where in "dense spread"] file \
         using "vm_gib":(pick("lazy", where, "blocks", base)) \
         with linespoints title "lazy, ".where

set title "against pinned blocks of 2 MiB, VM of ".top." GiB"
set xlabel "blocks"
set xrange [100:50000]
plot for [where in "dense spread"] file \
         using "blocks":(pick("timeout", where, "vm_gib", top)) \
         with linespoints title "all blocks looked at, ".where, \
     for [where in "dense spread"] file \
         using "blocks":(pick("lazy", where, "vm_gib", top)) \
         with linespoints title "lazy, ".where
unset multiplot
