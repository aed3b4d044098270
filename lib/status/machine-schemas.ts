/**
 * The schemas of the facts about a machine that a permitted peer may query (docs/info.md), with bounds for each text and list.
 * A peer's answer is validated against them, and unknown fields are dropped. The types in `types.ts` derive from them.
 */
import {
  CLOUD_INIT_STATES,
  MAX_ADDRESSES,
  MAX_DISKS,
  MAX_FAILED_UNITS,
  MAX_INTERFACES,
  MAX_TEXT_LENGTH,
  SYSTEMD_STATES,
} from './machine-bounds.js';
import * as z from './zod.js';

const amount = () => z.int().min(0);
const measure = () => z.number().min(0);
const text = () => z.string().max(MAX_TEXT_LENGTH);
const named = <S extends z.core.$ZodLooseShape>(id: string, description: string, shape: S) =>
  z.object(shape).meta({ id, description });
const part = <S extends z.core.$ZodLooseShape>(description: string, shape: S) => z.object(shape).describe(description);

export const bootStateSchema = named('BootState', 'The boot progress of a machine', {
  systemd: z
    .enum(SYSTEMD_STATES)
    .nullable()
    .describe('The state of systemd, as printed by `systemctl is-system-running`; null with another init'),
  systemdError: text().nullable().describe('Why systemd could not be queried, if `unknown`; otherwise null'),
  failedUnits: z
    .array(text())
    .max(MAX_FAILED_UNITS)
    .describe(`The failed units, if systemd is \`degraded\`; at most ${MAX_FAILED_UNITS}`),
  cloudInit: z
    .enum(CLOUD_INIT_STATES)
    .nullable()
    .describe('The state of cloud-init; `degraded`: done, with recovered errors; null without cloud-init'),
  cloudInitError: text().nullable().describe('The first error of cloud-init, or null'),
});

const diskSchema = named('Disk', 'A mounted local file system of a machine', {
  mountPoint: text().describe('The mount point'),
  device: text().describe('The mounted device: `/dev/vda1`'),
  type: text().describe('The type of its file system: `ext4`'),
  sizeBytes: amount().nullable().describe('Its size; null if the system did not answer in time'),
  freeBytes: amount().nullable().describe('Free space, including what is reserved for root; or null'),
  availableBytes: amount().nullable().describe('Free space for users other than root; or null'),
});

const interfaceSchema = named('NetworkInterface', 'A network interface with an address', {
  name: text().describe('Its name: `eth0`'),
  mac: text().nullable().describe('Its hardware address, or null'),
  addresses: z
    .array(text())
    .max(MAX_ADDRESSES)
    .describe(`Its addresses, each with its prefix length: \`192.0.2.7/24\`; at most ${MAX_ADDRESSES}`),
});

const moment = (what: string) => z.iso.datetime().nullable().describe(`${what}; ISO 8601, UTC; null if never`);

export const machineHistorySchema = named('MachineHistory', 'What a process of vproxy did to its machine', {
  restoredAt: moment('When it last found its machine restored from a snapshot'),
  clockSteppedAt: moment('When it last set the clock'),
  clockSteppedByMs: z.number().nullable().describe('By how much, in milliseconds; or null'),
  frozenAt: moment('When it last froze file systems'),
  refusedOptions: z
    .enum(['last', 'none'])
    .nullable()
    .exactOptional()
    .describe('If its service was refused its options: `last`, the last that worked are in effect, or `none`; or null'),
});

export const machineSchema = named('Machine', 'Facts about a machine', {
  hostName: text().describe('Its host name'),
  os: z
    .object({
      id: text().nullable().describe('`ID` of os-release: `debian`; or null'),
      versionId: text().nullable().describe('`VERSION_ID`: `13`; or null'),
      name: text().nullable().describe('`PRETTY_NAME`: `Debian GNU/Linux 13 (trixie)`; or null'),
    })
    .nullable()
    .describe('From /etc/os-release; null if it is missing'),
  kernel: part('Its kernel', {
    name: text().describe('`Linux`'),
    release: text().describe('Its release, as printed by `uname -r`'),
    architecture: text().describe('`x86_64`, as printed by `uname -m`'),
  }),
  bootId: text().nullable().describe('The id of this boot, which changes with each; null if unknown'),
  uptimeS: measure().describe('The time since boot, in seconds'),
  processors: amount().describe('The number of processors that programs can use'),
  load: z.array(measure()).length(3).describe('The load averages of the last 1, 5 and 15 minutes'),
  memory: part('Its memory', {
    totalBytes: amount().describe('Total memory'),
    availableBytes: amount().describe('Memory available without swapping'),
    swapTotalBytes: amount().describe('Total swap space'),
    swapFreeBytes: amount().describe('Free swap space'),
  }),
  disks: z.array(diskSchema).max(MAX_DISKS).describe(`Its file systems; at most ${MAX_DISKS}`),
  interfaces: z
    .array(interfaceSchema)
    .max(MAX_INTERFACES)
    .describe(`Its network interfaces with an address; at most ${MAX_INTERFACES}`),
  boot: bootStateSchema.describe('Its boot progress'),
  history: machineHistorySchema
    .exactOptional()
    .describe('What the vproxy that answers did to it; absent in older versions'),
});

const channel = () => z.string().describe('The label of the channel');

export const machineInfoSchema = machineSchema
  .extend({
    channel: channel(),
    clock: part('Its clock, compared with the clock of this side', {
      offsetMs: z.number().describe("How far its time of day is ahead of this side's, in milliseconds"),
      uncertaintyMs: measure().describe('The maximum error of the offset, either way, in milliseconds'),
      roundTripMs: measure().describe('The round trip of the measurement, in milliseconds'),
    }),
  })
  .meta({ id: 'MachineInfo', description: "Facts about the peer's machine, with a measurement of its clock" });

export const bootStatusSchema = bootStateSchema
  .extend({
    channel: channel(),
    verdict: z
      .enum(['booting', 'booted', 'failed'])
      .describe('`booted`: everything is done; `failed`: done, but something failed'),
    remarks: z
      .array(z.string())
      .describe('What it waits for, or what failed, as human-readable lines with foreign text escaped'),
  })
  .meta({ id: 'BootStatus', description: "The boot progress of the peer's machine, with a verdict" });

export const frozenAnswerSchema = named('FrozenAnswer', 'The answer of `POST /v1/freeze`', {
  channel: channel(),
  paths: z.array(z.string()).describe('The frozen mount points, in the order in which they were frozen'),
  forS: measure().describe('The time after which the machine thaws by itself, in seconds'),
});

export const thawedAnswerSchema = named('ThawedAnswer', 'The answer of `POST /v1/thaw`', {
  channel: channel(),
  heldMs: measure().describe('How long the file systems were frozen, in milliseconds'),
  cause: z.enum(['asked', 'time']).describe('`asked`: now; `time`: before, by itself, since its time was over'),
});

/** Rows for the types of `types.ts`. */
export const MACHINE_TYPES = {
  BootState: bootStateSchema,
  Disk: diskSchema,
  NetworkInterface: interfaceSchema,
  MachineHistory: machineHistorySchema,
  Machine: machineSchema,
  MachineInfo: machineInfoSchema,
  BootStatus: bootStatusSchema,
  FrozenAnswer: frozenAnswerSchema,
  ThawedAnswer: thawedAnswerSchema,
};
