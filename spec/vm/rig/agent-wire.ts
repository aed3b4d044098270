/** The messages between the rig and its agent in the guest: one JSON object a line, bytes as base64. */

/** A request. One that names another agent than its reader is stale: it was meant for an earlier boot. */
export type AgentRequest = { readonly id: number; readonly agent: string } & AgentOperation;

/** The requests to the agent. */
export type AgentOperation =
  /** Answered by an {@link AgentHello}, regardless of the named agent. */
  | { readonly op: 'hello' }
  /** Runs a line of shell to its end, or kills it with its children after `timeoutMs`. */
  | { readonly op: 'run'; readonly command: string; readonly timeoutMs: number }
  /** Starts a program and leaves it running; stdout and stderr go to a file. */
  | { readonly op: 'spawn'; readonly argv: readonly string[] }
  /** Answers when the job has ended. */
  | { readonly op: 'wait'; readonly pid: number };

/** The agent has started. `agent` is new for every process of the agent. */
export interface AgentHello {
  readonly hello: string;
}

/** The answer to `run`. */
export interface RunAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** The answer to `spawn`. */
export interface SpawnAnswer {
  readonly pid: number;
  readonly log: string;
}

/** The answer to `wait`: a status, or 128 and the signal's number. */
export interface WaitAnswer {
  readonly status: number;
}

/** The agent's reply to a request. */
export type AgentReply =
  | { readonly id: number; readonly answer: RunAnswer | SpawnAnswer | WaitAnswer }
  | { readonly id: number; readonly error: string };
