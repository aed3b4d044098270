#!/usr/bin/env node
/**
 * `npm run pictures:page`: takes the pictures of the page of `vproxy web` in Chromium, beside four guests on this machine, into
 * `docs/img/` or the given folder. It takes three minutes, most of them for the lines of traffic.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Page } from 'playwright-core';
import { connectControl } from '../../../lib/control/client/client.js';
import { startChromium } from '../../../spec/helpers/chromium.js';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { eventually } from '../../../spec/helpers/time.js';
import { ESTABLISHED, TAKING_CONTROL, VproxyProcess } from '../../../spec/helpers/vproxy-process.js';

const SIZE = { width: 1080, height: 640 };

/** For README.md: read on a phone, too, where it is shown smaller. */
const SMALL = { width: 500, height: 480 };

/** How long traffic is recorded for the lines and the plot. */
const RECORDED_MS = 150_000;

/** By label: the last one has no guest. */
const LABELS = ['build-1', 'build-2', 'mail', 'web', 'staging'];

const EGRESS = `[egress.internet]
allow = ["deb.debian.org:80", "*.npmjs.org:443"]
ask = "10m"
`;

/** Resolves with the paths of the pictures. */
async function takePictures(folder: string): Promise<string[]> {
  const place = mkdtempSync(join(tmpdir(), 'vproxy-page-'));
  const processes: VproxyProcess[] = [];
  const start = (args: readonly string[]): VproxyProcess => {
    const started = new VproxyProcess(args);
    processes.push(started);
    return started;
  };
  const at = (name: string): string => join(place, name);
  const browser = await startChromium();
  try {
    const channels = LABELS.map((label) => {
      const more =
        label === 'build-1' ? 'outgoing = ["web:127.0.0.1:0"]\nincoming = ["internet:egress:internet"]\n' : '';
      return `[channels.${label}]\naddress = "unix-listen:${at(label)}"\n${more}`;
    });
    writeFileSync(at('host.toml'), [EGRESS, ...channels].join('\n'));
    const control = ['--config', at('host.toml'), '--name', 'host1', '--control', at('host.sock')];
    const host = start(control);
    await host.waitForLine(TAKING_CONTROL);
    for (const label of LABELS.slice(0, -1)) {
      mkdirSync(at(`${label}-files`));
      const served = [
        '-i',
        'web:127.0.0.1:8080',
        ...(label === 'build-1' ? ['-o', `internet:${at('proxy.sock')}`] : []),
      ];
      const guest = [
        '-c',
        `unix-connect:${at(label)}`,
        '--name',
        label,
        '--info',
        '--allow-exec',
        `--allow-copy=${at(`${label}-files`)}`,
      ];
      await start([...guest, ...served]).waitForLine(ESTABLISHED);
    }
    const client = connectControl(at('host.sock'));
    await client.startJob(['sh', '-c', 'while sleep 0.2; do head -c 20000 /dev/urandom | base64; done'], {
      channel: 'build-1',
      tag: 'make',
    });
    await client.startJob(['sh', '-c', 'while sleep 1; do head -c 9000 /dev/urandom | base64; done'], {
      channel: 'mail',
    });
    const web = start(['web', '--socket', at('host.sock')]);
    await eventually(() => web.stdout.includes('\n'), { what: 'the link' });
    const link = new URL(web.stdout.trim());
    for (const channel of ['build-1', 'mail'])
      start(['attach', '--socket', at('host.sock'), ...(await idOf(client, channel))]);
    start([
      'exec',
      '--socket',
      at('host.sock'),
      'build-1:',
      'curl',
      '-sS',
      '-x',
      `socks5h://localhost${at('proxy.sock')}`,
      'http://pypi.org/',
    ]);
    const page = await browser.newPage({ viewport: SIZE, colorScheme: 'light', deviceScaleFactor: 1 });
    await page.goto(link.href);
    await page.getByText('build-2').first().waitFor();
    await page.waitForTimeout(RECORDED_MS);
    const files = [await take(page, folder, 'web-machines')];
    await page.setViewportSize(SMALL);
    files.push(await take(page, folder, 'web-small'));
    await page.setViewportSize(SIZE);
    await page.goto(`${link.origin}/#/m/host1/build-1`);
    await page.getByText('Host name').first().waitFor();
    files.push(await take(page, folder, 'web-machine'));
    await page.goto(`${link.origin}/#/m/host1/web/jobs`);
    await page.getByRole('button', { name: 'New terminal' }).click();
    await page.getByText('connected').waitFor();
    await page.locator('.xterm-helper-textarea').focus();
    await page.keyboard.type("PS1='web:~# '; clear; for n in 1 2 3; do echo line $n of a terminal; done\n");
    await page.locator('.xterm-rows').getByText('line 3 of').first().waitFor();
    files.push(await take(page, folder, 'web-terminal'));
    return files;
  } finally {
    await browser.close();
    await Promise.all(processes.map((one) => one.stop()));
    rmSync(place, { recursive: true, force: true });
  }
}

const idOf = async (client: ReturnType<typeof connectControl>, channel: string): Promise<string[]> =>
  (await client.jobs({ channel })).map(({ id }) => `${channel}/${id}`);

async function take(page: Page, folder: string, name: string): Promise<string> {
  // What is shown once a second is there.
  await page.waitForTimeout(1500);
  const path = join(folder, `${name}.png`);
  await page.screenshot({ path });
  return path;
}

for (const path of await takePictures(resolve(process.argv[2] ?? join(PROJECT_ROOT, 'docs/img')))) console.log(path);
