# SPDX-License-Identifier: GPL-2.0-or-later
# dma-map.csv -> dma-map.svg
set datafile separator ","
set datafile missing NaN
set terminal svg size 1000,700 dynamic font "sans,12"
set output "dma-map.svg"
set multiplot layout 2,2
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set boxwidth 0.9
set grid ytics
set key below
file = "dma-map.csv"
kernels = "`awk -F, '/^[0-9]/ && !seen[$1]++ && $1 !~ /cloud/ { print $1 }' dma-map.csv | paste -sd ' '`"
modes = "direct coiommu intel-lazy intel-strict intel-caching virtio-lazy virtio-strict"
# The figures of a mode, one line for each kernel, NaN where it has none.
cells(mode, operation, name) = sprintf("< awk -F, -v mode=%s -v op=%s -v name=%s " . \
    "-v kernels='%s' '/^kernel,/ { for (i = 1; i <= NF; i++) col[$i] = i } " . \
    "$2 == mode && $3 == op { found[$1] = $col[name] } " . \
    "END { n = split(kernels, k, \" \"); for (i = 1; i <= n; i++) { s = k[i]; sub(/[-+].*/, \"\", s); " . \
    "print s \",\" (k[i] in found ? found[k[i]] : \"NaN\") } }' %s", \
    mode, operation, name, kernels, file)

set logscale y
set ylabel "guest instructions, map + unmap"
set yrange [100:]
do for [op in "page 1m sg-far"] {
    set title op eq "page" ? "one page" : op eq "1m" ? "1 MiB" : "a list of 32 pages"
    plot for [mode in modes] cells(mode, op, "instructions") \
         using 2:xtic(1) title mode
}
unset logscale y
set yrange [0:*]
set ylabel "exits for 1000 pairs"
set title "exits, one page"
plot for [mode in modes] cells(mode, "page", "exits_per_1000") \
     using 2:xtic(1) title mode
unset multiplot
