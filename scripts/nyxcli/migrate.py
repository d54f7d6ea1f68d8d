# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (c) 2026 Nyx contributors
"""nyx migrate: move a VM to another QEMU, and see that all of it came."""

from pathlib import Path

from . import verify
from .errors import NyxError, Refused
from .options import command, vm_argument, vm_option
from .output import print_json, show, table
from .progress import follow, summary
from .rundir import vm_dir
from .units import count, number
from .vm import connect

# URIs by which the destination can answer
TWO_WAY = 'tcp:', 'unix:', 'vsock:'


def _configuration(there):
    """What the destination is like; NyxError if it does not wait."""
    if there.execute('query-status')['status'] != 'inmigrate':
        raise NyxError(f'{there.name} does not wait for a migration; start '
                       'it with -incoming defer.')
    return there.execute('query-nyx-migration').get('configuration')


def _check(vm, configuration):
    """NyxError with all that stands in the way."""
    info = vm.execute('query-nyx-migration', destination=configuration)
    if not info['ready']:
        reasons = '; '.join(obstacle['reason'].rstrip('.')
                            for obstacle in info['obstacles'])
        raise NyxError(f'{vm.name} cannot migrate: {reasons}.')


def _capabilities(vm, options, two_way):
    wanted = {'events': True, 'return-path': two_way,
              'postcopy-ram': options.postcopy,
              'multifd': options.multifd is not None, 'mapped-ram': False}
    vm.execute('migrate-set-capabilities', capabilities=[
        {'capability': name, 'state': state}
        for name, state in wanted.items()])
    vm.execute('migrate-set-parameters', downtime_limit=options.downtime,
               max_bandwidth=options.bandwidth,
               multifd_channels=options.multifd)


def _path(name):
    """The socket at which a VM of this host waits."""
    return Path(f'{name}.migration').absolute() if '/' in name else \
        vm_dir(name) / 'migration.sock'


def _listen(there, options):
    """Have the destination wait at a socket; its URI."""
    _capabilities(there, options, True)
    path = _path(there.name)
    try:
        there.execute('migrate-incoming', uri=f'unix:{path}')
    except Refused as err:
        raise NyxError(f'{there.name} waits elsewhere already '
                       f'({err.description.rstrip(".")}); give the URI of '
                       'that instead of --into.') from err
    return f'unix:{path}'


def _begin(options):
    """Start it; the name of the VM."""
    with connect(options.vm) as vm:
        vm.not_by_libvirt(f'virsh migrate --live {vm.name} DESTINATION')
        if options.into is None:
            _check(vm, None)
            uri = options.uri
        else:
            with connect(options.into) as there:
                _check(vm, _configuration(there))
                uri = _listen(there, options)
        _capabilities(vm, options, uri.startswith(TWO_WAY))
        vm.execute('migrate', uri=uri)
        return vm.name


def _start(options):
    if (options.uri is None) == (options.into is None):
        raise NyxError('where to migrate is not said; give either a URI, '
                       'such as tcp:HOST:PORT, or --into VM.')
    name = _begin(options)
    if options.detach:
        if options.json:
            print_json({'vm': name, 'status': 'setup'})
        else:
            print(f'{name} migrates; "nyx migrate watch {name}" shows how '
                  'far it is.')
        return None
    info = follow(name, options.json, options.postcopy)
    if options.into is None:
        _show(info, options.json)
        return None
    _path(options.into).unlink(missing_ok=True)
    results = _compare(name, options.into)
    if options.json:
        print_json({**info, 'verified': _as_dicts(results)})
    else:
        print(summary(info))
        show(('PART', 'RESULT', ''), results)
    return _status(results)


def _show(info, as_json):
    if as_json:
        print_json(info)
    else:
        print(summary(info))


def _watch(options):
    with connect(options.vm) as vm:
        name = vm.name
    _show(follow(name, options.json), options.json)


def _cancel(options):
    with connect(options.vm) as vm:
        name = vm.name
        vm.not_by_libvirt(f'virsh domjobabort {name}')
        before = vm.execute('query-migrate').get('status', 'none')
        if before in ('none', 'completed', 'failed', 'cancelled'):
            raise NyxError(f'{name} is not migrating, so there is nothing to '
                           'cancel.')
        vm.execute('migrate_cancel')
    try:
        follow(name, True)
    except NyxError:
        with connect(name) as vm:
            status = vm.execute('query-status')['status']
            info = vm.execute('query-migrate')
        if options.json:
            print_json(info)
        else:
            print(f'{info["status"]}; {name} is {status} here.')
        return
    raise NyxError(f'{name} had migrated before it could be cancelled.')


def _compare(here, there):
    with connect(here) as source, connect(there) as destination:
        return verify.compare(verify.read(source), verify.read(destination))


def _as_dicts(results):
    return [{'part': part, 'result': result, 'text': text}
            for part, result, text in results]


def _status(results):
    return int(any(result != 'ok' for _, result, _ in results))


def _verify(options):
    results = _compare(options.source, options.destination)
    if options.json:
        print_json(_as_dicts(results))
    else:
        show(('PART', 'RESULT', ''), results)
    return _status(results)


def _digest(options):
    with connect(options.vm) as vm:
        info = vm.execute('query-nyx-migration')
    if options.json:
        print_json(info)
        return
    rows = [('ready', 'yes' if info['ready'] else 'no')]
    rows += [('obstacle', obstacle['reason'])
             for obstacle in info['obstacles']]
    rows.append(('digest', info.get('digest', '-')))
    print(table(('', ''), rows).lstrip())


def _add_start(actions):
    parser = command(
        actions, 'start', _start, 'migrate a VM and watch it',
        'What would refuse to migrate is found before it begins. With --into, '
        'the destination is another VM on this host that waits with -incoming '
        'defer; both are compared at the end, and the exit status is 1 if '
        'they differ. Ctrl-C ends the watching, not the migration.')
    vm_option(parser)
    parser.add_argument('uri', metavar='URI', nargs='?', help='where the '
                        'destination waits: tcp:HOST:PORT, unix:PATH; or '
                        'file:PATH')
    parser.add_argument('--into', metavar='VM', help='instead of a URI: '
                        'another VM of this host')
    parser.add_argument('--downtime', metavar='MS', type=count,
                        help='the VM may stand still for so long (QEMU: 300)')
    parser.add_argument('--bandwidth', metavar='BYTES', type=number,
                        help='at most so many bytes per second; K, M, G')
    parser.add_argument('--postcopy', action='store_true', help='run on the '
                        'destination after one pass, and fetch what is '
                        'missing; without --into it needs the capability '
                        'postcopy-ram there, too')
    parser.add_argument('--multifd', metavar='N', type=count,
                        help='so many channels; likewise')
    parser.add_argument('--detach', action='store_true',
                        help='do not wait for the end')


def add(commands):
    """Add the subcommand and its own subcommands."""
    parser = commands.add_parser(
        'migrate', help='move a VM to another QEMU', description='Move a VM '
        'to another QEMU, on this host or another, or into a file.')
    actions = parser.add_subparsers(required=True, metavar='ACTION')
    _add_start(actions)
    vm_argument(command(actions, 'watch', _watch, 'show how far a migration '
                        'is, until it has ended'))
    vm_argument(command(actions, 'cancel', _cancel, 'end a migration; the VM '
                        'runs on where it was'))
    parser = command(actions, 'verify', _verify, 'compare both sides of a '
                     'migration', 'Both have to be reachable from here.')
    parser.add_argument('source', metavar='SOURCE')
    parser.add_argument('destination', metavar='DESTINATION')
    vm_argument(command(actions, 'ready', _digest, 'show what would refuse to '
                        'migrate, and the digest of what travels'))
