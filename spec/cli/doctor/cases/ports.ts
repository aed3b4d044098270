/** Virtio-serial ports. spec/vm/doctor.spec.ts has what takes a real port. */
import { chmodSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { checkVirtioPort, checkVirtioPorts } from '../../../../cli/doctor/locations/virtio-port.js';
import { type FakeMachine, fakeMachine, fakeMachineWithProc, portFiles } from '../../../helpers/machines.js';
import { openPty } from '../../../helpers/terminals.js';
import { anywhere, atPort, doctorWithoutRights, finds } from './case.js';

const NAME = 'org.vproxy.0';

/** Checks a port of a machine without processes; by its name, unless `address` is a path below its /dev. */
function look(t: ExecutionContext, machine: FakeMachine, address = NAME) {
  const fake = fakeMachineWithProc(t, machine);
  const place = address.startsWith('/') ? `${fake.options.dev}${address}` : address;
  return checkVirtioPort(fake, place, false);
}

/** A port with its link; its device is `device`. */
const whole = (device: string) => ({
  files: portFiles(NAME),
  links: { 'dev/vport0p1': device, [`dev/virtio-ports/${NAME}`]: '../vport0p1' },
});

/** A port with this text in debugfs, where its name is that of the device that the links lead to. */
function withDebug(t: ExecutionContext, text: string) {
  const { files, links } = whole('/dev/null');
  return look(t, { links, files: { ...files, 'sys/kernel/debug/virtio-ports/null': text } });
}

/** A port that cannot be opened. The fake /sys hides what the device really is. */
const failing = (t: ExecutionContext, code: string) =>
  look(t, {
    ...whole('/dev/null'),
    isHostAtPort: () => {
      throw Object.assign(new Error(`${code}: failed`), { code });
    },
  });

export const PORT_CASES = [
  finds('ports-found', 'the machine is a guest', /org\.vproxy\.0 \(vport0p1\), vport0p2 \(unnamed\)/, (t) =>
    checkVirtioPorts(fakeMachine(t, { files: { ...portFiles(NAME), ...portFiles('', 'vport0p2') } })),
  ),
  finds('ports-none', 'the machine has no ports', (t) => checkVirtioPorts(fakeMachine(t))),
  finds('port-module', 'the module is not loaded', /virtio3/, (t) =>
    checkVirtioPorts(fakeMachine(t, { files: { 'sys/bus/virtio/devices/virtio3/device': '0x0003\n' } })),
  ),
  atPort('channel-missing', 'the VM has no ports', /none available$/, (t) => look(t, {})),
  atPort('channel-missing', 'the VM has other ports, which are listed', /available: com\.redhat\.spice\.0/, (t) =>
    look(t, { files: portFiles('com.redhat.spice.0') }),
  ),
  atPort('channel-missing', 'the path is that of a missing device', /vport9p9 does not exist$/, (t) =>
    look(t, { files: portFiles(NAME) }, '/vport9p9'),
  ),
  atPort('channel-missing', 'the VM has a port with a similar name', /did you mean org\.vporxy\.0\?$/, (t) =>
    look(t, { files: portFiles('org.vporxy.0') }, `/virtio-ports/${NAME}`),
  ),
  finds('port-no-link', 'udev has made no link', (t) =>
    look(t, { files: portFiles(NAME), links: { 'dev/vport0p1': '/dev/null' } }),
  ),
  finds('port-no-device', 'the device is missing', (t) => look(t, { files: portFiles(NAME) })),
  atPort('channel-unusable', 'the path is that of another device', /a device of "mem"/, (t) =>
    look(t, { links: { 'dev/x': '/dev/null' }, sys: '/sys' }, '/x'),
  ),
  atPort('channel-unusable', 'the path is that of a file', (t) => look(t, { files: { 'dev/x': '' } }, '/x')),
  atPort('channel-unusable', 'it is a console', (t) => look(t, { files: { 'dev/hvc0': '' } }, '/hvc0')),
  atPort('channel-unusable', 'it is port 0', (t) =>
    look(t, { files: { ...portFiles(NAME, 'vport0p0'), 'dev/vport0p0': '' } }),
  ),
  atPort('channel-unusable', 'the kernel reports a console', (t) => failing(t, 'ENXIO')),
  atPort('channel-denied', 'the device has the mode 0000', /mode 0000/, async (t) => {
    const { path } = await openPty(t);
    chmodSync(path, 0);
    return doctorWithoutRights(t, '-c', `virtserial-open:${path}`);
  }),
  anywhere(
    'channel-busy',
    'another process has it open, and is named',
    { says: /is open in process \d+ \((script|sleep)/, remedy: /: (?:kill \d+|systemctl stop \S+)$/ },
    async (t) => look(t, { ...whole((await openPty(t)).path), proc: '/proc' }),
  ),
  anywhere('channel-busy', 'no process is seen to have it, and it cannot be opened', (t) => failing(t, 'EBUSY')),
  anywhere('channel-busy', 'debugfs shows that it is open', (t) =>
    withDebug(t, 'name: org.vproxy.0\nguest_connected: 1\nhost_connected: 1\n'),
  ),
  finds('port-no-host', 'it reads EOF', /for a moment/, (t) => look(t, whole('/dev/null'))),
  finds('port-host', 'it has something to read', /for a moment/, (t) => look(t, whole('/dev/full'))),
  finds('port-host', 'debugfs shows it, without opening it', /open on the host$/, (t) =>
    withDebug(t, 'guest_connected: 0\nhost_connected: 1\n'),
  ),
  atPort('channel-failed', 'opening it fails', (t) => failing(t, 'EIO')),
];
