/**
 * libvirt's way to hand arguments to QEMU that it does not look at, for a port: https://libvirt.org/kbase/qemu-passthrough-security.html
 */
import { formatQemuArguments, type QemuPort } from './qemu-arguments.js';
import { isSince, type QemuVersion } from './qemu-version.js';
import { formatAttribute } from './xml-attribute.js';

const NAMESPACE = 'http://libvirt.org/schemas/domain/qemu/1.0';

/** The `<qemu:commandline>` element, in lines, with a newline at the end. It says its namespace itself. */
export function formatCommandlineXml(port: QemuPort, version: QemuVersion): string {
  return [
    `<qemu:commandline${formatAttribute('xmlns:qemu', NAMESPACE)}>`,
    ...listArguments(port, version).map((word) => `  <qemu:arg${formatAttribute('value', word)}/>`),
    '</qemu:commandline>',
    '',
  ].join('\n');
}

/**
 * Since 6.2 QEMU takes devices as JSON, and makes those last. libvirt writes its own so, each with its slot; one in the
 * older spelling comes first and sits in the slot of another, so that the domain does not start.
 */
function listArguments(port: QemuPort, version: QemuVersion): string[] {
  if (!isSince(version, 6, 2)) return formatQemuArguments(port);
  const { chardev, controller } = port;
  return ['-device', JSON.stringify(controller), '-chardev', chardev, '-device', JSON.stringify(port.port)];
}
