/**
 * What a machine says of itself to a peer that may ask (docs/info.md), as schemas with the bounds of each text and list: the
 * answer of a peer is checked against them, and what is not known in it is left out. The types in `types.ts` come from them.
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

export const bootStateSchema = z
  .object({
    systemd: z
      .enum(SYSTEMD_STATES)
      .nullable()
      .describe('The state of systemd, as `systemctl is-system-running` prints it; null where the init is another one'),
    systemdError: text().nullable().describe('Why systemd could not be asked, where it is `unknown`; else null'),
    failedUnits: z
      .array(text())
      .max(MAX_FAILED_UNITS)
      .describe(`The units of systemd that failed, where it is \`degraded\`: ${MAX_FAILED_UNITS} at most`),
    cloudInit: z
      .enum(CLOUD_INIT_STATES)
      .nullable()
      .describe(
        'How far cloud-init is; `degraded`: done, with errors that it has recovered from; null where there is none',
      ),
    cloudInitError: text().nullable().describe('The first error of cloud-init; else null'),
  })
  .meta({ id: 'BootState', description: 'How far a machine is with booting' });

const diskSchema = z
  .object({
    mountPoint: text().describe('Where it is mounted'),
    device: text().describe('What is mounted there: `/dev/vda1`'),
    type: text().describe('The type of its file system: `ext4`'),
    sizeBytes: amount().nullable().describe('Its size; null where the system did not answer in time'),
    freeBytes: amount().nullable().describe('What nothing is in, what is reserved for root included; or null'),
    availableBytes: amount().nullable().describe('What users other than root can still write; or null'),
  })
  .meta({ id: 'Disk', description: 'A file system of a machine that is mounted, and not from a network' });

const interfaceSchema = z
  .object({
    name: text().describe('Its name: `eth0`'),
    mac: text().nullable().describe('Its hardware address; null where it has none'),
    addresses: z
      .array(text())
      .max(MAX_ADDRESSES)
      .describe(`Its addresses, each with the length of its network: \`192.0.2.7/24\`; ${MAX_ADDRESSES} at most`),
  })
  .meta({ id: 'NetworkInterface', description: 'A network interface of a machine that has an address' });

export const machineSchema = z
  .object({
    hostName: text().describe('Its host name'),
    os: z
      .object({
        id: text().nullable().describe('`ID` of os-release: `debian`; or null'),
        versionId: text().nullable().describe('`VERSION_ID`: `13`; or null'),
        name: text().nullable().describe('`PRETTY_NAME`: `Debian GNU/Linux 13 (trixie)`; or null'),
      })
      .nullable()
      .describe('What /etc/os-release says; null where it is missing'),
    kernel: z
      .object({
        name: text().describe('`Linux`'),
        release: text().describe('Its version, as `uname -r` prints it'),
        architecture: text().describe('`x86_64`, as `uname -m` prints it'),
      })
      .describe('Its kernel'),
    bootId: text().nullable().describe('The id of this boot: another one after each; null where it is not known'),
    uptimeS: measure().describe('The time since it was booted, in seconds'),
    processors: amount().describe('The number of processors that programs can use'),
    load: z.array(measure()).length(3).describe('The load averages of the last 1, 5 and 15 minutes'),
    memory: z
      .object({
        totalBytes: amount().describe('What it has'),
        availableBytes: amount().describe('What programs can still have without swapping'),
        swapTotalBytes: amount().describe('What it has of swap'),
        swapFreeBytes: amount().describe('What of that is free'),
      })
      .describe('Its memory'),
    disks: z.array(diskSchema).max(MAX_DISKS).describe(`Its file systems: ${MAX_DISKS} at most`),
    interfaces: z
      .array(interfaceSchema)
      .max(MAX_INTERFACES)
      .describe(`Its network interfaces that have an address: ${MAX_INTERFACES} at most`),
    boot: bootStateSchema.describe('How far it is with booting'),
  })
  .meta({ id: 'Machine', description: 'What a machine says of itself' });

const channel = () => z.string().describe('The label of the channel');

export const machineInfoSchema = machineSchema
  .extend({
    channel: channel(),
    clock: z
      .object({
        offsetMs: z.number().describe("By how much its time of day is ahead of this side's, in milliseconds"),
        uncertaintyMs: measure().describe('By how much that may be wrong, either way, in milliseconds'),
        roundTripMs: measure().describe('The round trip that it was measured with, in milliseconds'),
      })
      .describe('Its clock, beside the clock of this side'),
  })
  .meta({ id: 'MachineInfo', description: 'What the machine of a peer says of itself, and what was measured of it' });

export const bootStatusSchema = bootStateSchema
  .extend({
    channel: channel(),
    verdict: z
      .enum(['booting', 'booted', 'failed'])
      .describe('`booted`: all of it is done; `failed`: it is done, and something in it has failed'),
    remarks: z
      .array(z.string())
      .describe('What it waits for, or what has failed, each as a line for people, in which foreign text is escaped'),
  })
  .meta({ id: 'BootStatus', description: 'How far the machine of a peer is with booting, and what that means' });

/** Rows of the types of `types.ts`. */
export const MACHINE_TYPES = {
  BootState: bootStateSchema,
  Disk: diskSchema,
  NetworkInterface: interfaceSchema,
  Machine: machineSchema,
  MachineInfo: machineInfoSchema,
  BootStatus: bootStatusSchema,
};
