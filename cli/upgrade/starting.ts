/** How a process tells the one it starts that it is its successor. Without imports: every start of an executable looks here. */

/** How the descriptor of the pipe is named in the environment of a successor. */
export const HANDOVER_VARIABLE = 'VPROXY_HANDOVER_FD';

/** The descriptor by which a successor is started as a program: of a child, and of one that a shell starts. */
export const PROGRAM_DESCRIPTORS = { child: 4, orphan: 6 } as const;

/** Whether this process is started as a successor. A shell calls it by its descriptor, so its name tells nothing. */
export const isSuccessor = (environment: NodeJS.ProcessEnv): boolean => environment[HANDOVER_VARIABLE] !== undefined;

/** The descriptor of the pipe to a predecessor, which is taken out of `environment`; null without one. */
export function takeHandoverDescriptor(environment: NodeJS.ProcessEnv): number | null {
  const { [HANDOVER_VARIABLE]: text } = environment;
  Reflect.deleteProperty(environment, HANDOVER_VARIABLE);
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : null;
}
