# SPDX-License-Identifier: GPL-2.0-or-later
#
# sed -nf no-trace.sed trace-events: functions of these names that do nothing.
s/^\([a-z0-9_]*\)(\(.*\)) ".*/static inline void trace_\1(\2) { }/p
