/** How a process learns that it is a successor. Without imports: every start of the executable loads this. */

/** The environment variable of a successor with the descriptor of the pipe. */
export const HANDOVER_VARIABLE = 'VPROXY_HANDOVER_FD';

/** The descriptor that a successor is executed from: as a child, and through a shell. */
export const PROGRAM_DESCRIPTORS = { child: 4, orphan: 6 } as const;

/** Whether this process was started as a successor. A shell runs it by descriptor, so its name tells nothing. */
export const isSuccessor = (environment: NodeJS.ProcessEnv): boolean => environment[HANDOVER_VARIABLE] !== undefined;

/** Removes the descriptor of the pipe to a predecessor from `environment` and returns it; null without one. */
export function takeHandoverDescriptor(environment: NodeJS.ProcessEnv): number | null {
  const { [HANDOVER_VARIABLE]: text } = environment;
  Reflect.deleteProperty(environment, HANDOVER_VARIABLE);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}
