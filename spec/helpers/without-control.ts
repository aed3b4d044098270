/** Command lines of specs that do not care for a control socket: none shall be left in a folder that all processes share. */

/** The words of a command line; one that runs a proxy, and says nothing of a control socket, has none. */
export function withoutControl(args: readonly string[]): readonly string[] {
  // `vproxy ping -c 1` is a command for one that runs.
  const runs = args[0]?.startsWith('-') === true && args.some((word) => /^(-c|--channel|--config)/.test(word));
  const says = args.some((word) => /^--(no-)?control/.test(word));
  return runs && !says ? ['--no-control', ...args] : args;
}
