/** The boot progress of this machine, from systemd and cloud-init. */
import { isObject } from '../../codec/json.js';
import { MAX_FAILED_UNITS, MAX_TEXT_LENGTH, SYSTEMD_STATES } from '../../status/machine-bounds.js';
import type { BootState } from '../../status/types.js';
import { describeToolFailure } from '../../system/processes/run-tool.js';
import { describeError } from '../../util/escape.js';
import type { MachineSources } from './this-machine.js';

/** Reads the boot progress. Never rejects. */
export async function readBoot(sources: MachineSources): Promise<BootState> {
  const systemd = await readSystemd(sources);
  return { ...systemd, ...(await readCloudInit(sources, systemd.failedUnits)) };
}

const NO_SYSTEMD = { systemd: null, systemdError: null, failedUnits: [] } as const;

/** This folder exists if systemd is the init: sd_booted(3). */
const SYSTEMD_FOLDER = '/run/systemd/system';

type SystemdPart = Pick<BootState, 'systemd' | 'systemdError' | 'failedUnits'>;

async function readSystemd(sources: MachineSources): Promise<SystemdPart> {
  if (!(await sources.exists(SYSTEMD_FOLDER))) return NO_SYSTEMD;
  try {
    const result = await sources.run(['systemctl', 'is-system-running']);
    // The exit status is redundant, and not 0 for most states.
    const word = result.stdout.trim();
    const systemd = SYSTEMD_STATES.find((state) => state === word);
    if (systemd === undefined || systemd === 'unknown') return unknownSystemd(describeToolFailure('systemctl', result));
    const failedUnits = systemd === 'degraded' ? await listFailedUnits(sources) : [];
    return { systemd, systemdError: null, failedUnits };
  } catch (error) {
    return unknownSystemd(describeError(error));
  }
}

const unknownSystemd = (why: string): SystemdPart => ({
  systemd: 'unknown',
  systemdError: why.slice(0, MAX_TEXT_LENGTH),
  failedUnits: [],
});

async function listFailedUnits(sources: MachineSources): Promise<string[]> {
  const words = ['systemctl', 'list-units', '--state=failed', '--plain', '--no-legend', '--full', '--no-pager'];
  const { stdout } = await sources.run(words);
  const names = stdout.split('\n').flatMap((line) => /^\s*(\S{1,256})/.exec(line)?.[1] ?? []);
  return names.slice(0, MAX_FAILED_UNITS);
}

// cloud-init writes its progress to these files, and result.json when it has ended: https://cloudinit.readthedocs.io,
// "Failure states" and "Boot status".

const CLOUD_INIT_FOLDER = '/run/cloud-init';

/** Its services: if one fails, there will be no result.json. */
const CLOUD_INIT_UNIT = /^cloud-(?:init(?:-local|-main|-network)?|config|final)\.service$/;

type CloudInitPart = Pick<BootState, 'cloudInit' | 'cloudInitError'>;

async function readCloudInit(sources: MachineSources, failedUnits: readonly string[]): Promise<CloudInitPart> {
  const [status, result] = await Promise.all(
    ['status.json', 'result.json'].map((name) => readStages(sources, `${CLOUD_INIT_FOLDER}/${name}`)),
  );
  const failed = failedUnits.find((unit) => CLOUD_INIT_UNIT.test(unit));
  if (result !== null && result !== undefined) return judgeResult(result, status ?? {});
  if (failed !== undefined) return { cloudInit: 'error', cloudInitError: `${failed} failed` };
  if (status !== null) return { cloudInit: 'running', cloudInitError: null };
  const [isEnabled, isDisabled] = await Promise.all(
    ['enabled', 'disabled'].map((name) => sources.exists(`${CLOUD_INIT_FOLDER}/${name}`)),
  );
  const cloudInit = isDisabled === true ? 'disabled' : isEnabled === true ? 'not-started' : null;
  return { cloudInit, cloudInitError: null };
}

type Json = Readonly<Record<string, unknown>>;

/** Reads `v1` of such a file; null if the file is missing, empty if it is incomplete or not valid JSON. */
async function readStages(sources: MachineSources, path: string): Promise<Json | null> {
  const text = await sources.readText(path);
  if (text === null) return null;
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) && isObject(value['v1']) ? value['v1'] : {};
  } catch {
    return {};
  }
}

function judgeResult({ errors }: Json, status: Json): CloudInitPart {
  if (Array.isArray(errors) && errors.length > 0) return { cloudInit: 'error', cloudInitError: firstText(errors) };
  const recovered = Object.values(status).flatMap((stage) => {
    const kinds = isObject(stage) && isObject(stage['recoverable_errors']) ? stage['recoverable_errors'] : {};
    return Object.values(kinds).flat();
  });
  if (recovered.length === 0) return { cloudInit: 'done', cloudInitError: null };
  return { cloudInit: 'degraded', cloudInitError: firstText(recovered) };
}

const firstText = (texts: readonly unknown[]): string => String(texts[0]).slice(0, MAX_TEXT_LENGTH);
