/** Virtio-serial ports. What only a real port does is in spec/vm/doctor.spec.ts. */
import { chmodSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { checkVirtioPort, checkVirtioPorts } from '../../../../cli/doctor/locations/virtio-port.js';
import { type FakeMachine, fakeMachine, fakeMachineWithProc, portFiles } from '../../../helpers/machines.js';
import { openPty } from '../../../helpers/terminals.js';
import { doctorWithoutRights, type FindingCase } from './case.js';

const NAME = 'org.vproxy.0';

/** Looks at a port of a machine without processes; by its name, unless `address` is a path below its /dev. */
function look(t: ExecutionContext, machine: FakeMachine, address = NAME) {
  const fake = fakeMachineWithProc(t, machine);
  const place = address.startsWith('/') ? `${fake.options.dev}${address}` : address;
  return checkVirtioPort(fake, place, false);
}

/** A port with its link; its device is `device`, and what `host` does when it is opened. */
const whole = (device: string): FakeMachine => ({
  files: portFiles(NAME),
  links: { 'dev/vport0p1': device, [`dev/virtio-ports/${NAME}`]: '../vport0p1' },
});

const failing = (code: string) => () => {
  throw Object.assign(new Error(`${code}: it is so`), { code });
};

// The fake /sys does not say what the device really is; it reads as ended, as a port without a host does.
// Links are followed, so debugfs has it by this name.
const NULL_DEVICE = '/dev/null';

/** Each finding about them. */
export const PORT_CASES: readonly FindingCase[] = [
  {
    id: 'ports-found',
    when: 'the machine is a guest',
    says: /org\.vproxy\.0 \(vport0p1\), vport0p2 without a name/,
    find: (t) => checkVirtioPorts(fakeMachine(t, { files: { ...portFiles(NAME), ...portFiles('', 'vport0p2') } })),
  },
  { id: 'ports-none', when: 'the machine has none', find: (t) => checkVirtioPorts(fakeMachine(t)) },
  {
    id: 'port-module',
    when: 'the module is not loaded',
    says: /virtio3/,
    find: (t) => checkVirtioPorts(fakeMachine(t, { files: { 'sys/bus/virtio/devices/virtio3/device': '0x0003\n' } })),
  },
  { id: 'port-missing', when: 'the VM has no ports', says: /this machine has no ports/, find: (t) => look(t, {}) },
  {
    id: 'port-missing',
    when: 'the VM has other ports, which are listed',
    says: /there are: com\.redhat\.spice\.0/,
    find: (t) => look(t, { files: portFiles('com.redhat.spice.0') }),
  },
  {
    id: 'port-misspelt',
    when: 'the VM has a port with a name like it',
    says: /there is org\.vporxy\.0/,
    find: (t) => look(t, { files: portFiles('org.vporxy.0') }, `/virtio-ports/${NAME}`),
  },
  {
    id: 'port-no-link',
    when: 'udev has made no link',
    find: (t) => look(t, { files: portFiles(NAME), links: { 'dev/vport0p1': NULL_DEVICE } }),
  },
  { id: 'port-no-device', when: 'the device is missing', find: (t) => look(t, { files: portFiles(NAME) }) },
  {
    id: 'port-not-virtio',
    when: 'the path is that of another device',
    says: /a device of "mem"/,
    find: (t) => look(t, { links: { 'dev/x': NULL_DEVICE }, sys: '/sys' }, '/x'),
  },
  { id: 'port-not-virtio', when: 'the path is that of a file', find: (t) => look(t, { files: { 'dev/x': '' } }, '/x') },
  { id: 'port-console', when: 'it is a console', find: (t) => look(t, { files: { 'dev/hvc0': '' } }, '/hvc0') },
  {
    id: 'port-console',
    when: 'it has the number 0',
    find: (t) => look(t, { files: { ...portFiles(NAME, 'vport0p0'), 'dev/vport0p0': '' } }),
  },
  {
    id: 'port-console',
    when: 'the kernel says that it is one',
    find: (t) => look(t, { ...whole(NULL_DEVICE), isHostAtPort: failing('ENXIO') }),
  },
  {
    id: 'port-denied',
    when: 'the device has the mode 0000',
    says: /mode 0000/,
    async find(t) {
      const { path } = await openPty(t);
      chmodSync(path, 0);
      return doctorWithoutRights(t, '-c', `virtserial-open:${path}`);
    },
  },
  {
    id: 'port-busy',
    when: 'another process has it open, and is named',
    says: /is open in process \d+ \((script|sleep)/,
    remedy: /kill \d+|systemctl stop/,
    find: async (t) => look(t, { ...whole((await openPty(t)).path), proc: '/proc' }),
  },
  {
    id: 'port-busy',
    when: 'nobody is seen to have it, and it cannot be opened',
    find: (t) => look(t, { ...whole(NULL_DEVICE), isHostAtPort: failing('EBUSY') }),
  },
  {
    id: 'port-busy',
    when: 'debugfs says that it is open',
    find: (t) => {
      const { files, links } = whole(NULL_DEVICE);
      const text = 'name: org.vproxy.0\nguest_connected: 1\nhost_connected: 1\n';
      return look(t, { files: { ...files, 'sys/kernel/debug/virtio-ports/null': text }, ...(links && { links }) });
    },
  },
  { id: 'port-no-host', when: 'it reads as ended', says: /for a moment/, find: (t) => look(t, whole('/dev/null')) },
  { id: 'port-host', when: 'it has something to read', says: /for a moment/, find: (t) => look(t, whole('/dev/full')) },
  {
    id: 'port-host',
    when: 'debugfs says so, without opening it',
    says: /the host is there$/,
    find: (t) => {
      const { files, links } = whole('/dev/null');
      const text = 'guest_connected: 0\nhost_connected: 1\n';
      return look(t, { files: { ...files, 'sys/kernel/debug/virtio-ports/null': text }, ...(links && { links }) });
    },
  },
  {
    id: 'port-failed',
    when: 'it fails',
    find: (t) => look(t, { ...whole('/dev/null'), isHostAtPort: failing('EIO') }),
  },
];
