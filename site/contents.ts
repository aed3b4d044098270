/**
 * The documents of the site, in reading order. The build fails if a document of docs/ is missing here.
 */

/** Documents under a heading of the navigation. */
export interface Section {
  title: string;
  /** Their paths in the repository, and their titles on the site. */
  documents: Record<string, string>;
}

/** The sections of the navigation. The page at the front is README.md, which has no section. */
export const SECTIONS: readonly Section[] = [
  {
    title: 'Begin',
    documents: {
      'docs/getting-started.md': 'Getting started',
      'docs/install.md': 'Installing',
      'docs/offline-guest.md': 'Into a guest without a network',
      'docs/hypervisors.md': 'Hypervisors',
      'docs/recipes.md': 'Recipes',
      'docs/neighbours.md': 'Alternatives',
    },
  },
  {
    title: 'Use',
    documents: {
      'docs/channels.md': 'Channels',
      'docs/libvirt.md': 'libvirt and QEMU',
      'docs/forwards.md': 'Forwards',
      'docs/egress.md': 'Egress',
      'docs/storage.md': 'Storage emulation',
      'docs/exec.md': 'Commands in the guest',
      'docs/copy.md': 'Copying files',
      'docs/info.md': 'Guest information',
      'docs/restore.md': 'Pause, snapshot, restore, clone',
      'docs/ansible.md': 'Ansible',
      'docs/config.md': 'Configuration file',
      'docs/control.md': 'Control API',
      'docs/cli.md': 'Command line',
      'docs/glossary.md': 'Glossary',
    },
  },
  {
    title: 'Run',
    documents: {
      'docs/services.md': 'systemd services',
      'docs/operations.md': 'Operations',
      'docs/reliability.md': 'Reliability',
      'docs/troubleshooting.md': 'Troubleshooting',
      'docs/doctor.md': 'vproxy doctor',
      'docs/errors.md': 'Errors',
      'docs/security.md': 'Security',
      'SECURITY.md': 'Security policy',
      'docs/performance.md': 'Performance',
      'CHANGELOG.md': 'Changes',
    },
  },
  {
    title: 'Programs',
    documents: {
      'docs/programs.md': 'vproxy in a program',
      'examples/README.md': 'Examples',
      'docs/protocol.md': 'Protocol',
    },
  },
  {
    title: 'Inside',
    documents: {
      'CONTRIBUTING.md': 'Contributing',
      'docs/architecture.md': 'Architecture',
      'docs/testing.md': 'Testing',
    },
  },
];

/** A folder whose documents form a collapsed section, in the order of their file names, with a page that lists them. */
export interface Collection {
  title: string;
  folder: string;
  /** The title of the page that lists them, and the text above the list; null: the folder's README.md lists them. */
  list: { title: string; text: string } | null;
}

export const COLLECTIONS: readonly Collection[] = [
  {
    title: 'Commands',
    folder: 'docs/commands',
    list: {
      title: 'All commands',
      text: 'A page for each command; [the command line](../cli.md) has the options of the proxy itself.',
    },
  },
  {
    title: 'Decisions',
    folder: 'docs/decisions',
    list: null,
  },
];
