/**
 * The rig's agent in the guest: runs commands for the test, over a separate port that vproxy does not touch.
 * Called as `node agent.js /dev/virtio-ports/NAME`; init restarts it when it exits.
 */
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, openSync, read, writeSync } from 'node:fs';
import { constants } from 'node:os';

import type { AgentHello, AgentReply, AgentRequest, RunAnswer, SpawnAnswer, WaitAnswer } from '../agent-wire.js';

const JOBS_FOLDER = '/run/jobs';
const NOBODY_THERE_MS = 50;

const self = randomUUID();
const jobs = new Map<number, Promise<WaitAnswer>>();
const port = openSync(process.argv[2] ?? '', 'r+');
let jobCount = 0;

mkdirSync(JOBS_FOLDER, { recursive: true });
say({ hello: self });
readRequests();

/** Reads forever with blocking reads: this process does nothing but wait for the test. */
function readRequests(): void {
  const buffer = Buffer.alloc(4096);
  let pending = '';
  const readOn = () =>
    read(port, buffer, 0, buffer.length, null, (error, bytes) => {
      if (error !== null) throw error;
      // No bytes: the rig is not connected.
      if (bytes === 0) {
        setTimeout(readOn, NOBODY_THERE_MS);
        return;
      }
      const lines = (pending + buffer.toString('latin1', 0, bytes)).split('\n');
      pending = lines.pop() ?? '';
      for (const line of lines) handleLine(line);
      readOn();
    });
  readOn();
}

function handleLine(line: string): void {
  let request: AgentRequest;
  try {
    request = JSON.parse(Buffer.from(line, 'latin1').toString()) as AgentRequest;
  } catch {
    // Half a line that was left over from before a reboot.
    return;
  }
  if (request.op === 'hello' || request.agent !== self) {
    say({ hello: self });
    return;
  }
  const { id } = request;
  answer(request).then(
    (value) => say({ id, answer: value }),
    (error: unknown) => say({ id, error: String(error) }),
  );
}

function answer(request: AgentRequest): Promise<RunAnswer | SpawnAnswer | WaitAnswer> {
  switch (request.op) {
    case 'run':
      return run(request.command, request.timeoutMs);
    case 'spawn':
      return start(request.argv);
    case 'wait':
      return jobs.get(request.pid) ?? Promise.reject(new Error(`no job has the pid ${request.pid}`));
    case 'hello':
      return Promise.reject(new Error('a hello has no answer'));
  }
}

function run(command: string, timeoutMs: number): Promise<RunAnswer> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', command], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.once('error', reject);
    const timer = setTimeout(() => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
      reject(new Error(`took longer than ${timeoutMs} ms: ${command}`));
    }, timeoutMs);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      const base64 = (chunks: Buffer[]) => Buffer.concat(chunks).toString('base64');
      resolve({ stdout: base64(stdout), stderr: base64(stderr), status: exitStatus(code, signal) });
    });
  });
}

function start([program = '', ...args]: readonly string[]): Promise<SpawnAnswer> {
  jobCount += 1;
  const log = `${JOBS_FOLDER}/${jobCount}.log`;
  const fd = openSync(log, 'a');
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { detached: true, stdio: ['ignore', fd, fd] });
    child.once('error', reject);
    child.once('spawn', () => {
      const pid = child.pid ?? 0;
      const ended = new Promise<WaitAnswer>((resolveEnd) => {
        child.once('exit', (code, signal) => resolveEnd({ status: exitStatus(code, signal) }));
      });
      jobs.set(pid, ended);
      resolve({ pid, log });
    });
  });
}

function exitStatus(code: number | null, signal: NodeJS.Signals | null): number {
  return code ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

function say(message: AgentHello | AgentReply): void {
  const bytes = Buffer.from(`${JSON.stringify(message)}\n`);
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(port, bytes, offset);
}
