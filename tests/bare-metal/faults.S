/*
 * Boot sector whose processor shuts down: a breakpoint has no handler, nor have
 * the faults that follow
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * In protected mode: KVMs that emulate real mode take no notice of an IDT's end.
 * With SECOND defined the second processor does so, and the first one starts it
 * over and over, which has no effect on one that runs.
 */

#define HERE            0x7c00          /* where SeaBIOS loads it */
#define SECOND_PAGE     0x8             /* where the second processor starts */
#define SECOND_HERE     (SECOND_PAGE << 12)
#define CODE_32         0x8
#define DATA_32         0x10
#define CR0_PE          1
#define DEBUG_PORT      0x402
#define FIRST_RUNS      0xf1            /* what is said there */
#define SECOND_RUNS     0xf2
#define APIC_ICR        0xfee00300
#define TO_APIC_1       0x01000000
#define SEND_INIT       0x4500
#define SEND_SIPI       (0x4600 | SECOND_PAGE)
#define PATIENCE        0x100000

    .text
    .code16
start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov $(second - start + HERE), %si
    mov $SECOND_HERE, %di
    mov $(second_end - second), %cx
    rep movsb
    lgdtl gdt_pointer - start + HERE
    mov %cr0, %eax
    or $CR0_PE, %al
    mov %eax, %cr0
    ljmp $CODE_32, $(first - start + HERE)

second:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl gdt_pointer - start + HERE
    mov %cr0, %eax
    or $CR0_PE, %al
    mov %eax, %cr0
    ljmp $CODE_32, $(second32 - second + SECOND_HERE)
    .code32
second32:
    mov $DATA_32, %ax
    mov %ax, %ds
    mov $DEBUG_PORT, %dx
    mov $SECOND_RUNS, %al
    out %al, %dx
    lidt no_idt - start + HERE
    int3
second_end:

first:
    mov $DATA_32, %ax
    mov %ax, %ds
    mov $DEBUG_PORT, %dx
    mov $FIRST_RUNS, %al
    out %al, %dx
#ifdef SECOND
    mov $APIC_ICR, %edi
    movl $TO_APIC_1, 0x10(%edi)
    movl $SEND_INIT, (%edi)
1:  mov $PATIENCE, %ecx
2:  pause
    dec %ecx
    jnz 2b
    movl $TO_APIC_1, 0x10(%edi)
    movl $SEND_SIPI, (%edi)
    jmp 1b
#else
    lidt no_idt - start + HERE
    int3
#endif

no_idt:
    .word 0
    .long 0
gdt:
    .quad 0
    .quad 0x00cf9a000000ffff            /* CODE_32: 4 GiB */
    .quad 0x00cf92000000ffff            /* DATA_32 */
gdt_end:
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt - start + HERE
