/** Lines of tmpfiles.d(5), which make a file again after a reboot. */

/** The line for a FIFO; `mode` is its permission bits. A FIFO that is there is kept, anything else is replaced. */
export function formatFifoLine(path: string, mode: number, user: string, group: string): string {
  return `p+ ${quotePath(path)} ${formatMode(mode)} ${user} ${group} - -`;
}

/** Four octal digits. */
export function formatMode(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

/** A percent sign begins a specifier there, and white space ends a field. */
function quotePath(path: string): string {
  const escaped = path.replace(/[\\"]/g, '\\$&').replaceAll('%', '%%').replaceAll('\n', '\\n');
  return escaped === path && !/[\s']/.test(path) ? path : `"${escaped}"`;
}
