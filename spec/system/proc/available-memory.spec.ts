import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { availableMemory } from '../../../lib/system/proc/available-memory.js';
import { temporaryFolder } from '../../helpers/files.js';

const MEMINFO = 'MemTotal:  9000 kB\nMemAvailable:  5000 kB\n';

/** A system of these files. */
function system(t: ExecutionContext, files: Readonly<Record<string, string>>): string {
  const root = temporaryFolder(t);
  for (const [name, text] of Object.entries({ 'proc/meminfo': MEMINFO, ...files })) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

test('without a limit it is what the machine has', (t) => {
  const root = system(t, {
    'proc/self/cgroup': '0::/a\n',
    'sys/fs/cgroup/a/memory.max': 'max\n',
    'sys/fs/cgroup/a/memory.current': '1000\n',
  });
  t.deepEqual(availableMemory(root), { bytes: 5_120_000, boundBy: 'this machine' });
});

test('the strictest control group counts, without files that were read', (t) => {
  const root = system(t, {
    'proc/self/cgroup': '0::/a/b.service\n',
    'sys/fs/cgroup/a/memory.max': '2000000\n',
    'sys/fs/cgroup/a/memory.current': '1500000\n',
    'sys/fs/cgroup/a/memory.stat': 'anon 1\ninactive_file 100000\nactive_file 10000\n',
    'sys/fs/cgroup/a/b.service/memory.max': 'max\n',
    'sys/fs/cgroup/a/b.service/memory.high': '1900000\n',
    'sys/fs/cgroup/a/b.service/memory.current': '1000000\n',
  });
  t.deepEqual(availableMemory(root), { bytes: 610_000, boundBy: 'the control group /a' });
});

test('control groups of the first version count, also where a container sees none but its own', (t) => {
  const root = system(t, {
    'proc/self/cgroup': '5:cpu,cpuacct:/\n4:memory:/docker/abc\n0::/\n',
    'sys/fs/cgroup/memory/memory.limit_in_bytes': '3000000\n',
    'sys/fs/cgroup/memory/memory.usage_in_bytes': '2900000\n',
    'sys/fs/cgroup/memory/memory.stat': 'inactive_file 7\ntotal_inactive_file 50000\n',
  });
  t.deepEqual(availableMemory(root), { bytes: 150_000, boundBy: 'the control group /' });
});

test('a group that is beyond its limit leaves nothing; a system that tells nothing is not judged', (t) => {
  const files = { 'sys/fs/cgroup/memory.max': '10\n', 'sys/fs/cgroup/memory.current': '20\n' };
  const root = system(t, { 'proc/self/cgroup': '0::/\n', ...files });
  t.is(availableMemory(root)?.bytes, 0);
  t.is(availableMemory(join(root, 'missing')), null);
  t.true((availableMemory()?.bytes ?? 0) > 0);
});
