/** A process that has taken over, while the idle channels of its predecessor follow. */
import { fstatSync, readdirSync, renameSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { Output } from '../../cli/run/output.js';
import { ProxyProcess } from '../../cli/run/proxy-process.js';
import { checkChannel } from '../../lib/proxy/channel/check-channel.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { loadLibc } from '../../lib/system/libc.js';
import { listen } from '../../lib/system/sockets/listening.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../lib/util/concurrency.js';
import { orElse } from '../../lib/util/or-else.js';
import { ChangeHere } from '../helpers/change-here.js';
import { ask } from '../helpers/control.js';
import { temporaryFolder } from '../helpers/files.js';
import { startProxy } from '../helpers/proxies.js';

/** Another descriptor of the same file. */
const duplicate = (await loadLibc()).declare('int dup(int fd)');
const agent = 'vproxy test';
const NOTHING = {
  instance: '0'.repeat(32),
  forwardCount: 0,
  labels: [],
  channels: [],
  groups: [],
  streamEnds: { count: 0, ended: new Map() },
  folders: new Map(),
};

test('requests, SIGHUP and the end wait for idle channels; groups hold up nothing, and an end is not told as a start', async (t) => {
  const path = join(temporaryFolder(t), 'control.sock');
  const server = net.createServer();
  await listen(server, { path: `${path}.old` });
  const fd = duplicate(descriptorOf(server) ?? -1);
  // Node removes the file of a server that it closes.
  renameSync(`${path}.old`, path);
  server.close();
  const order: string[] = [];
  const groups = deferred();
  let [whole, asked] = [deferred(), deferred()];
  class LateProxy extends Proxy {
    override goOn(): Promise<void> {
      return groups.promise;
    }
    override get whole() {
      asked.resolve();
      return whole.promise;
    }
    override retryNow(): void {
      order.push('retry');
    }
    override async stop(): Promise<void> {
      order.push('stop');
      await super.stop();
    }
  }
  class Manager {
    ready(): void {
      order.push('ready');
    }
    stopping(): Promise<void> {
      order.push('stopping');
      return Promise.resolve();
    }
  }
  const legacy = { state: NOTHING, checked: [], idle: [], take: () => fd };
  const logging = { logLevel: 'error', logFormat: 'text', logDetails: false } as const;
  const made = new ProxyProcess({
    configuration: { ...logging, once: false, ready: 'any', channelDefaults: { name: null } },
    output: new Output({ format: 'text', level: 'error', hasDetails: false, hasTimes: false }),
    proxy: new LateProxy({ channels: [], agent, restored: legacy }),
    service: { notifySocket: '/none', watchdogMs: null, storeSize: 0 },
    manager: { ServiceManager: Manager } as unknown as typeof import('../../cli/service/service-manager.js'),
    ...{ load: null, runtimeDirectory: null, variables: {}, keepsCapabilities: true },
    store: {
      has: () => false,
      take: () => null,
      put() {},
      remove: () => true,
      settle: () => true,
      end: () => void order.push('end'),
    },
  });
  const listeners = [{ serves: 'control', address: { path }, descriptor: 0, unread: [] }] as const;
  const counts = { sessions: 0, streams: 0, listeners: 1 };
  const ended = made.runOn({ counts, writtenAtMs: Date.now(), listeners, httpPorts: null }, legacy);
  await new Promise(setImmediate);
  t.deepEqual(made.control.paths, [path]);
  const waits = async (work: () => Promise<unknown>) => {
    [whole, asked] = [deferred(), deferred()];
    const done = work();
    await Promise.race([done, asked.promise]);
    order.push('whole');
    whole.resolve();
    await done;
  };
  await waits(async () => order.push((await ask({ socketPath: path }, 'GET', '/metrics')).text.slice(0, 6)));
  await waits(() => made.running.hangUp());
  await waits(() => {
    made.running.stop();
    groups.resolve();
    return ended;
  });
  t.deepEqual(order, ['whole', '# HELP', 'whole', 'retry', 'whole', 'end', 'stop', 'stopping']);
});

test('an idle channel whose state cannot be restored begins anew: its descriptors are closed, its peer comes back', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const old = new Proxy({
    channels: ['a', 'b'].map((label) => ({ label, address: `unix-listen:${path}.${label}` })),
    agent,
  });
  await old.start();
  const peer = await startProxy(t, `unix-connect:${path}.a`);
  await Promise.all([peer.event('session-established'), old.waitFor({ label: 'a' }, 30_000)]);
  const change = await ChangeHere.prepare();
  const checked = old.prepare().map(checkChannel);
  const { channels, ...state } = old.capture(change.keep);
  // It has its link and its session before it fails.
  const idle = channels.map((one) => (one.options === 0 ? { ...one, forwards: [{} as never] } : one));
  change.end(null);
  const known = new Map(idle.flatMap(({ descriptors }) => descriptors.map((index) => [index, change.take(index)])));
  const inodes = idle[0]?.descriptors.map((index) => fstatSync(known.get(index) ?? -1).ino) ?? [];
  const legacy = { state: { ...state, channels: [] }, take: (index: number) => known.get(index) ?? -1, checked, idle };
  const proxy = new Proxy({ channels: [], agent, restored: legacy });
  t.teardown(() => {
    // It waits for a link that was closed silently.
    void old.stop();
    return proxy.stop();
  });
  const failures: string[] = [];
  proxy.on('log', ({ event, message }) => event === 'channel-failed' && failures.push(message));
  const since = peer.events.length;
  await proxy.goOn(legacy);
  t.deepEqual(
    proxy.listChannels().map(({ label }) => label),
    ['a', 'b'],
  );
  t.is(failures.length, 1);
  await peer.event('session-established', since);
  const inodeOf = (fd: string) => orElse(0, () => fstatSync(Number(fd)).ino);
  const open = new Set(readdirSync('/proc/self/fd').map(inodeOf));
  t.deepEqual(
    inodes.map((inode) => open.has(inode)),
    [false, false],
  );
});
