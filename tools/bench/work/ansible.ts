/** Plays of Ansible through the collection's connection, beside its own ssh through a forward of the same channel. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { Ansible, type AnsibleVariables } from '../../../spec/helpers/ansible.js';
import { eventually } from '../../../spec/helpers/time.js';
import { CLIENT_OPTIONS, startSshServer } from '../contenders/ssh.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import { findProgram } from '../process/find-program.js';
import { findFreePort } from '../process/free-port.js';
import type { Programs } from '../process/programs.js';
import type { Amounts, Outcomes, Work } from './work.js';

const SESSION_TIMEOUT_MS = 60_000;

/** The work's name and its rows. */
export const ANSIBLE: Pick<Work, 'id' | 'rows'> = {
  id: 'ansible',
  rows: ({ bytes }) => [
    { key: 'pipelined', title: 'task, with pipelining', unit: 'ms' },
    { key: 'copied', title: 'task, without pipelining', unit: 'ms' },
    { key: 'copy', title: `copy of ${bytes / 1e6} MB to the guest`, unit: 's' },
    { key: 'fetch', title: `fetch of ${bytes / 1e6} MB from the guest`, unit: 's' },
  ],
};

/** The ways to reach the guest. */
export const ANSIBLE_CONNECTIONS: readonly { readonly id: string; readonly title: string }[] = [
  { id: 'vproxy', title: 'vproxy.vproxy.vproxy' },
  { id: 'ssh', title: 'ssh, ControlPersist' },
];

/** Two sides with an sshd behind them, and an Ansible that reaches the same machine by either way. */
export class AnsiblePlays {
  readonly #programs: readonly { stop(): Promise<void> }[];
  readonly #ansible: Ansible;
  readonly #folder: string;
  readonly #hosts: ReadonlyMap<string, AnsibleVariables>;

  private constructor(
    programs: readonly { stop(): Promise<void> }[],
    folder: string,
    hosts: ReadonlyMap<string, AnsibleVariables>,
  ) {
    this.#programs = programs;
    this.#folder = folder;
    this.#ansible = Ansible.install(join(folder, 'ansible'));
    this.#hosts = hosts;
  }

  /** Starts both sides. Rejects if a program is missing, or if either way does not work. */
  static async start(programs: Programs, parent: string): Promise<AnsiblePlays> {
    const missing = ['ansible-playbook', 'ssh', 'sshd'].find((name) => findProgram(name) === undefined);
    if (missing !== undefined) {
      throw new Error(`${missing} is missing: apt-get install ansible-core openssh-client openssh-server`);
    }
    const folder = mkdtempSync(join(parent, 'ansible-'));
    mkdirSync(join(folder, 'ansible'));
    const [channel, socket] = [join(folder, 'channel.sock'), join(folder, 'control.sock')];
    const port = await findFreePort();
    const server = await startSshServer(programs, folder);
    const sides = [
      ['-c', `unix-listen:${channel}`, '--control', socket, '-o', `ssh:127.0.0.1:${port}`],
      ['-c', `unix-connect:${channel}`, '--no-control', '--allow-exec', '-i', `ssh:127.0.0.1:${server.port}`],
    ].map((args) => programs.startScript(VPROXY_SCRIPT, args));
    const options = CLIENT_OPTIONS.flatMap((option) => ['-o', option]);
    const hosts = new Map<string, AnsibleVariables>([
      ['vproxy', { ansible_host: 'default', ansible_vproxy_socket: socket }],
      [
        'ssh',
        {
          ansible_connection: 'ssh',
          ansible_host: '127.0.0.1',
          ansible_port: port,
          ansible_user: userInfo().username,
          ansible_ssh_private_key_file: server.keyFile,
          ansible_ssh_common_args: ['-F', 'none', ...options].join(' '),
        },
      ],
    ]);
    const plays = new AnsiblePlays([...sides, server.program], folder, hosts);
    try {
      for (const id of hosts.keys()) {
        const what = `the first task by ${id}`;
        await eventually(() => plays.#play(id, [COMMAND]), { timeoutMs: SESSION_TIMEOUT_MS, what });
      }
      return plays;
    } catch (error) {
      await plays.stop();
      throw error;
    }
  }

  /** Plays each of them by one way. The overhead of a play besides its tasks is not counted. */
  async measure(id: string, { ansibleTasks, bytes }: Pick<Amounts, 'ansibleTasks' | 'bytes'>): Promise<Outcomes> {
    const [source, there, back] = ['source', 'there', 'back'].map((name) => join(this.#folder, name)) as [
      ...[string, string, string],
    ];
    const tasks = Array.from({ length: 1 + ansibleTasks }, () => COMMAND);
    const outcomes: Record<string, number> = {};
    for (const [key, isPipelined] of [
      ['pipelined', true],
      ['copied', false],
    ] as const) {
      const few = await this.#play(id, [COMMAND], isPipelined);
      outcomes[key] = ((await this.#play(id, tasks, isPipelined)) - few) / ansibleTasks;
    }
    writeFileSync(source, Buffer.alloc(bytes, 'bytes that no side compresses'));
    const none = await this.#play(id, [COMMAND]);
    const copy = { 'ansible.builtin.copy': { src: source, dest: there } };
    const fetch = { 'ansible.builtin.fetch': { src: there, dest: back, flat: true } };
    outcomes['copy'] = ((await this.#play(id, [COMMAND, copy])) - none) / 1000;
    outcomes['fetch'] = ((await this.#play(id, [COMMAND, fetch])) - none) / 1000;
    for (const path of [source, there, back]) rmSync(path);
    return outcomes;
  }

  /** Plays tasks on the host of that name; resolves with milliseconds. Rejects with Ansible's output if one fails. */
  async #play(id: string, tasks: readonly AnsibleVariables[], isPipelined = true): Promise<number> {
    const book = join(this.#folder, 'play.json');
    writeFileSync(book, JSON.stringify([{ hosts: 'all', gather_facts: false, tasks }]));
    const variables = { ansible_remote_tmp: join(this.#folder, 'remote'), ansible_pipelining: isPipelined };
    const inventory = this.#ansible.writeInventory({ [id]: this.#hosts.get(id) ?? {} }, variables);
    const startedAt = performance.now();
    const { code, text } = await this.#ansible.run('ansible-playbook', ['-i', inventory, book]);
    const tookMs = performance.now() - startedAt;
    if (code !== 0) throw new Error(`a play by ${id} failed: ${text.trim()}`);
    return tookMs;
  }

  /** Stops both sides and the sshd, and with it the connection that ssh keeps. */
  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }
}

const COMMAND: AnsibleVariables = { 'ansible.builtin.command': 'true' };
