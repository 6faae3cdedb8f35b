/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of a guest, for the reproducer "eventinj": L1 runs L2 by VMRUN and
 * injects one interrupt.  L2's handler counts it; L2 itself runs for ever with
 * interrupts off, so nothing else is ever delivered.  reproduce.py reads the
 * counters from outside.  32-bit protected mode without paging, by multiboot.
 */
#define MULTIBOOT_MAGIC 0x1badb002
#define MSR_EFER 0xc0000080
#define EFER_SVME 0x1000
#define MSR_VM_HSAVE_PA 0xc0010117
#define VECTOR 0x40
#define CODE 8
#define DATA 16

/* Fields of the VMCB. */
#define INTERCEPTS2 0x010       /* bit 0: VMRUN, which must be set */
#define ASID 0x058
#define EVENTINJ 0x0a8
#define SAVE 0x400
#define SEGMENT(n) (SAVE + 16 * (n))    /* es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr */
#define SAVE_EFER (SAVE + 0x0d0)
#define SAVE_CR0 (SAVE + 0x158)
#define SAVE_RFLAGS (SAVE + 0x170)
#define SAVE_RIP (SAVE + 0x178)
#define SAVE_RSP (SAVE + 0x1d8)

.macro segment n, selector, attributes
    movw $\selector, vmcb + SEGMENT(\n)
    movw $\attributes, vmcb + SEGMENT(\n) + 2
    movl $0xffffffff, vmcb + SEGMENT(\n) + 4
.endm

    .code32
    .section .text
    .globl _start, delivered, alive
    .align 4
    .long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

_start:
    movl $stack, %esp
    lgdt gdt_register
    ljmp $CODE, $1f
1:  movl $DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss

    /* The gate of the one vector that comes. */
    movl $handler, %eax
    movw %ax, idt + 8 * VECTOR
    shrl $16, %eax
    movw %ax, idt + 8 * VECTOR + 6
    movw $CODE, idt + 8 * VECTOR + 2
    movw $0x8e00, idt + 8 * VECTOR + 4

    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_SVME, %eax
    wrmsr
    movl $MSR_VM_HSAVE_PA, %ecx
    movl $host_save, %eax
    xorl %edx, %edx
    wrmsr

    segment 0, DATA, 0xc93
    segment 1, CODE, 0xc9b
    segment 2, DATA, 0xc93
    segment 3, DATA, 0xc93
    movl $idt, vmcb + SEGMENT(8) + 8
    movl $0x7ff, vmcb + SEGMENT(8) + 4
    movl $gdt, vmcb + SEGMENT(6) + 8
    movl $23, vmcb + SEGMENT(6) + 4
    movl %cr0, %eax
    movl %eax, vmcb + SAVE_CR0
    movl $EFER_SVME, vmcb + SAVE_EFER
    movl $2, vmcb + SAVE_RFLAGS
    movl $l2, vmcb + SAVE_RIP
    movl $l2_stack, vmcb + SAVE_RSP
    movl $1, vmcb + INTERCEPTS2
    movl $1, vmcb + ASID
    movl $0x80000000 | VECTOR, vmcb + EVENTINJ
    movl $vmcb, %eax
    vmrun
    /* L2 has no way back: this is a mistake in the VMCB. */
    hlt

l2:
    incl alive
    jmp l2

handler:
    incl delivered
    iret

    .section .data
    .align 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_register:
    .word 23
    .long gdt

    .section .bss
    .align 4096
vmcb:
    .skip 4096
host_save:
    .skip 4096
idt:
    .skip 2048
    .skip 1024
stack:
    .skip 1024
l2_stack:
delivered:
    .skip 4
alive:
    .skip 4
