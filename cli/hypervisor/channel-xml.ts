/** libvirt's element for a port, as `<devices>` of a domain has it: https://libvirt.org/formatdomain.html#channel */
import { type HypervisorPort, isDialed } from './hypervisor-port.js';
import { formatAttribute } from './xml-attribute.js';

/** The `<channel>` element, in lines, with a newline at the end. */
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
  // libvirt picks a path where none is said, labels it and removes it.
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
