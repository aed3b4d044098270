/** A port as libvirt XML: an element of `<devices>` (https://libvirt.org/formatdomain.html#channel), or QEMU arguments. */
import { type HypervisorPort, isDialed } from './port.js';
import { formatQemuArguments, isSince, type QemuPort, type QemuVersion } from './qemu.js';

/** Formats the `<channel>` element, in lines, with a trailing newline. */
export function formatChannelXml(port: HypervisorPort): string {
  const { name, end } = port;
  return [
    `<channel${formatAttribute('type', end.kind)}>`,
    ...formatSource(port),
    ...(end.kind === 'tcp' ? [`  <protocol${formatAttribute('type', 'raw')}/>`] : []),
    `  <target${formatAttribute('type', 'virtio')}${formatAttribute('name', name)}/>`,
    '</channel>',
    '',
  ].join('\n');
}

function formatSource(port: HypervisorPort): string[] {
  const { end, reconnectSeconds } = port;
  // Without a path libvirt picks one, labels it and removes it.
  if (end.kind === 'unix' && end.path === null) return [];
  const mode = end.kind === 'pipe' ? '' : formatAttribute('mode', end.mode);
  const where =
    end.kind === 'tcp'
      ? `${formatAttribute('host', end.host)}${formatAttribute('service', end.port)}`
      : formatAttribute('path', end.path ?? '');
  if (!isDialed(port)) return [`  <source${mode}${where}/>`];
  const again = `${formatAttribute('enabled', 'yes')}${formatAttribute('timeout', reconnectSeconds)}`;
  return [`  <source${mode}${where}>`, `    <reconnect${again}/>`, '  </source>'];
}

// A port by libvirt's passthrough of QEMU arguments: https://libvirt.org/kbase/qemu-passthrough-security.html

const NAMESPACE = 'http://libvirt.org/schemas/domain/qemu/1.0';

/** Formats the `<qemu:commandline>` element, in lines, with a trailing newline. It declares its own namespace. */
export function formatCommandlineXml(port: QemuPort, version: QemuVersion): string {
  return [
    `<qemu:commandline${formatAttribute('xmlns:qemu', NAMESPACE)}>`,
    ...listArguments(port, version).map((word) => `  <qemu:arg${formatAttribute('value', word)}/>`),
    '</qemu:commandline>',
    '',
  ].join('\n');
}

/**
 * Since 6.2, QEMU accepts devices as JSON, and creates those last. libvirt writes its own in that form, each with its slot; a
 * device in the older syntax is created first and takes the slot of another, so that the domain does not start.
 */
function listArguments(port: QemuPort, version: QemuVersion): string[] {
  if (!isSince(version, 6, 2)) return formatQemuArguments(port);
  const { chardev, controller } = port;
  return ['-device', JSON.stringify(controller), '-chardev', chardev, '-device', JSON.stringify(port.port)];
}

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&apos;' };

/** Formats ` name='value'`; the value has no control characters. */
function formatAttribute(name: string, value: string | number): string {
  return ` ${name}='${String(value).replace(/[&<>']/g, (character) => ENTITIES[character] ?? '')}'`;
}
