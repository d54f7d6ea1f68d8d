# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""A display: what the guest draws, and what the screen shows."""

WIDTH, HEIGHT = 800, 600
TRIES = 50                  # the guest's driver copies a while after a write


def add_display(vm, name, domain=None):
    vm.device('bochs-display', ['bochs'], domain, id=name, xres=WIDTH,
              yres=HEIGHT)


def draw(vm, colour):
    """Fill the guest's frame buffer; colour is four letters (B, G, R, -)."""
    size = WIDTH * HEIGHT * len(colour)
    # The console's cursor must not blink through the picture.
    vm.agent.check('echo 0 >/sys/class/graphics/fbcon/cursor_blink; '
                   f"yes '{colour}' | tr -d '\\n' | head -c {size} "
                   '>/run/picture && '
                   f'dd if=/run/picture of=/dev/fb0 bs={size} 2>/dev/null')


def wait_shown(vm, name, colour):
    """Whether the screen comes to show the colour all over."""
    picture = vm.folder / 'screen.ppm'
    want = colour.encode()[2::-1] * (WIDTH * HEIGHT)
    for _ in range(TRIES):
        vm.monitor.command('screendump', device=name, filename=str(picture))
        if picture.read_bytes()[-len(want):] == want:
            return True
        vm.agent.check('usleep 100000')
    return False
