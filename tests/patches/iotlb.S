/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For the reproducer "iotlb": read a constant register of the HPET for ever, many times
 * in one block of translated code, and count what differs.  reproduce.py changes the
 * memory map meanwhile, and reads the counters, from outside.
 */
#define MULTIBOOT_MAGIC 0x1badb002
#define HPET_CAPABILITIES 0xfed00000

    .code32
    .section .text
    .globl _start, wrong, alive
    .align 4
    .long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

_start:
    xorl %ecx, %ecx
    movl HPET_CAPABILITIES, %ebx
again:
    .rept 32
    movl HPET_CAPABILITIES, %eax
    xorl %ebx, %eax
    orl %eax, %ecx
    .endr
    testl %ecx, %ecx
    jz 1f
    incl wrong
    xorl %ecx, %ecx
1:  incl alive
    jmp again

    .section .bss
    .align 4
wrong:
    .skip 4
alive:
    .skip 4
