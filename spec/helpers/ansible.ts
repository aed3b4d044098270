/** Debian's ansible-core with the collection of packaging/ansible: builds it, installs it into its own folder, and uses it. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from './files.js';
import { runProgram } from './vproxy-process.js';

export const PLAYBOOKS = join(PROJECT_ROOT, 'spec/fixtures/ansible');

/** Debian's Python; another python3 may not have its modules. */
export const PYTHON = '/usr/bin/python3';

export type AnsibleVariables = Readonly<Record<string, unknown>>;

interface AnsibleResult {
  readonly code: number | null;
  /** Both outputs, interleaved. */
  readonly text: string;
}

export interface TaskResult {
  readonly unreachable?: boolean;
  readonly failed?: boolean;
  readonly rc?: number;
  readonly msg?: string;
  readonly stdout?: string;
  readonly stderr?: string;
}

/** Ansible in a folder: its collection, its home and its inventory. */
export class Ansible {
  readonly #folder: string;
  readonly #env: NodeJS.ProcessEnv;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#env = {
      PATH: process.env['PATH'],
      HOME: folder,
      LANG: 'C.UTF-8',
      ANSIBLE_HOME: join(folder, 'home'),
      ANSIBLE_LOCAL_TEMP: join(folder, 'local'),
      ANSIBLE_COLLECTIONS_PATH: join(folder, 'collections'),
      ANSIBLE_CONFIG: join(folder, 'ansible.cfg'),
      ANSIBLE_NOCOLOR: '1',
      ANSIBLE_RETRY_FILES_ENABLED: '0',
    };
  }

  /** Builds the collection with ansible-galaxy, and installs it below an empty folder. Throws ansible-galaxy's output. */
  static install(folder: string): Ansible {
    const ansible = new Ansible(folder);
    const galaxy = (...words: readonly string[]): string =>
      execFileSync('ansible-galaxy', ['collection', ...words], { env: ansible.#env, encoding: 'utf8', stdio: 'pipe' });
    mkdirSync(join(folder, 'built'));
    // No configuration of the machine or the user.
    writeFileSync(join(folder, 'ansible.cfg'), '[defaults]\n');
    galaxy('build', '--output-path', join(folder, 'built'), join(PROJECT_ROOT, 'packaging/ansible'));
    galaxy('install', '--offline', '--collections-path', join(folder, 'collections'), ansible.archive);
    return ansible;
  }

  get archive(): string {
    const [name = ''] = readdirSync(join(this.#folder, 'built'));
    return join(this.#folder, 'built', name);
  }

  get collection(): string {
    return join(this.#folder, 'collections/ansible_collections/vproxy/vproxy');
  }

  /** Writes an inventory of hosts, and returns its path. `variables` apply to all hosts. */
  writeInventory(hosts: Readonly<Record<string, AnsibleVariables>>, variables: AnsibleVariables): string {
    const path = join(this.#folder, `inventory-${readdirSync(this.#folder).length}.json`);
    const all = { ansible_connection: 'vproxy.vproxy.vproxy', ansible_python_interpreter: PYTHON, ...variables };
    writeFileSync(path, JSON.stringify({ all: { vars: all, hosts } }));
    return path;
  }

  async run(program: string, words: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<AnsibleResult> {
    const options = { env: { ...this.#env, ...env }, timeoutMs: 300_000 };
    const { code, stdout, stderr } = await runProgram([program, ...words], options);
    return { code, text: stdout + stderr };
  }

  /** Runs a playbook of {@link PLAYBOOKS} on all hosts of an inventory. */
  play(inventory: string, name: string, variables: AnsibleVariables, words: readonly string[] = []) {
    const extra = ['--extra-vars', JSON.stringify(variables)];
    return this.run('ansible-playbook', ['-i', inventory, ...extra, ...words, join(PLAYBOOKS, name)]);
  }

  /** Runs a module on all hosts of an inventory; returns the result by host. */
  async task(
    inventory: string,
    module: string,
    argument: string,
    variables: AnsibleVariables = {},
  ): Promise<Map<string, TaskResult>> {
    const tree = join(this.#folder, `tree-${readdirSync(this.#folder).length}-${process.hrtime.bigint()}`);
    const words = ['all', '-i', inventory, '-m', module, '-a', argument, '-e', JSON.stringify(variables), '-t', tree];
    const { text } = await this.run('ansible', words);
    try {
      return new Map(
        readdirSync(tree).map((host) => [host, JSON.parse(readFileSync(join(tree, host), 'utf8')) as TaskResult]),
      );
    } catch (error) {
      throw new Error(`ansible ${words.join(' ')}\n${text}`, { cause: error });
    }
  }
}
