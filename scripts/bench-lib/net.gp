# SPDX-License-Identifier: GPL-2.0-or-later
# net.csv -> net.svg
set terminal svg size 1200,1300 dynamic font "sans,12"
set output "net.svg"
table = "net"
load here . "/paired.gp"
set multiplot layout 3,1
set logscale y
set yrange [0.02:20]
set title "rate, of static pinning in the same round (messages of so many bytes)"
plot for [env in envs] cells(env, "rate_of_static") using 2:3:4:xtic(1) title env
set title "exits for each message, host interrupts left out"
set yrange [0.01:*]
plot for [env in envs] cells(env, "exits_per_message") using 2:3:4:xtic(1) title env
set title "microseconds of CPU for each message"
set style histogram clustered gap 1
set yrange [1:*]
plot for [env in envs] one(env, "cpu_us_per_message") using 2:xtic(1) title env
unset multiplot
