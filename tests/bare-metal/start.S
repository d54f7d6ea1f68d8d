/*
 * Bare-metal payload: from PVH's entry to 64-bit C, and interrupts
 *
 * Copyright (c) 2026 Nyx contributors
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * QEMU's -kernel starts an ELF file with a PVH note in 32-bit protected mode,
 * without paging, and with the address of a struct hvm_start_info in EBX.
 */

#define CR0_PE          (1 << 0)
#define CR0_PG          (1 << 31)
#define CR4_PAE         (1 << 5)
#define MSR_EFER        0xc0000080
#define EFER_LME        (1 << 8)
#define PTE_PRESENT_WRITE   0x3
#define PTE_LARGE       0x80
#define CODE_64         8

    .section .note.pvh, "a", @note
    .balign 4
    .long 4                     /* size of the name */
    .long 8                     /* size of the entry */
    .long 18                    /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .quad start32

    .text
    .code32
    .globl start32
start32:
    cld
    mov $stack_top, %esp
    /* 4 GiB, each page of 2 MiB at its own address */
    mov $page_directories, %edi
    mov $(PTE_PRESENT_WRITE | PTE_LARGE), %eax
1:  mov %eax, (%edi)
    movl $0, 4(%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b
    mov %cr4, %eax
    or $CR4_PAE, %eax
    mov %eax, %cr4
    mov $page_root, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov %cr0, %eax
    or $CR0_PG, %eax
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $CODE_64, $start64

    .code64
start64:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %ebx, %edi
    call payload_main
1:  cli
    hlt
    jmp 1b

/*
 * What another processor starts with, in real mode: copied to a page below
 * 1 MiB, whose number is in CS.  It comes to the first one's page tables.
 */
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    mov %cs, %ax
    mov %ax, %ds
    lgdtl gdt_copy - trampoline
    mov $CR4_PAE, %eax
    mov %eax, %cr4
    mov $page_root, %eax
    mov %eax, %cr3
    mov $MSR_EFER, %ecx
    rdmsr
    or $EFER_LME, %eax
    wrmsr
    mov $(CR0_PG | CR0_PE), %eax
    mov %eax, %cr0
    ljmpl $CODE_64, $second64
gdt_copy:
    .word gdt_pointer - gdt - 1
    .long gdt
trampoline_end:

    .code64
second64:
    xor %eax, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $second_stack_top, %rsp
    call second_main
1:  sti
    hlt
    jmp 1b

/* One stub of 16 bytes for each vector: its number, then the common part. */
    .balign 16
    .globl interrupt_stubs
interrupt_stubs:
    .set vector, 0
    .rept 256
    .balign 16
    push $vector
    jmp interrupt_common
    .set vector, vector + 1
    .endr

interrupt_common:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    mov 72(%rsp), %rdi
    /* RIP, or the error code of those exceptions that have one */
    mov 80(%rsp), %rsi
    mov 88(%rsp), %rdx
    cld
    call on_interrupt
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $8, %rsp
    iretq

    .data
    .balign 8
gdt:
    .quad 0
    .quad 0x00209a0000000000    /* 64-bit code */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

    .balign 4096
page_root:
    .quad page_pointers + PTE_PRESENT_WRITE
    .fill 511, 8, 0
page_pointers:
    .quad page_directories + PTE_PRESENT_WRITE
    .quad page_directories + 4096 + PTE_PRESENT_WRITE
    .quad page_directories + 8192 + PTE_PRESENT_WRITE
    .quad page_directories + 12288 + PTE_PRESENT_WRITE
    .fill 508, 8, 0

    .bss
    .balign 4096
page_directories:
    .skip 4 * 4096
    .skip 16384
stack_top:
    .skip 16384
second_stack_top:

    .section .note.GNU-stack, "", @progbits
