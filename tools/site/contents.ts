/**
 * The documents of the site, in reading order. The build fails if a document of docs/ is missing here.
 */

/** Documents under a heading of the navigation. */
export interface Section {
  title: string;
  /** Their paths in the repository. */
  documents: readonly string[];
}

/** The sections of the navigation, as in README.md, which is the page at the front and has no section. */
export const SECTIONS: readonly Section[] = [
  {
    title: 'Get started',
    documents: [
      'docs/getting-started.md',
      'docs/install.md',
      'docs/offline-guest.md',
      'docs/hypervisors.md',
      'docs/neighbours.md',
    ],
  },
  {
    title: 'Guides',
    documents: [
      'docs/exec.md',
      'docs/copy.md',
      'docs/sftp.md',
      'docs/info.md',
      'docs/storage.md',
      'docs/forwards.md',
      'docs/egress.md',
      'docs/libvirt.md',
      'docs/restore.md',
      'docs/ansible.md',
      'docs/recipes.md',
    ],
  },
  {
    title: 'Reference',
    documents: [
      'docs/cli.md',
      'docs/commands.md',
      'docs/channels.md',
      'docs/channel-kinds.md',
      'docs/channel-options.md',
      'docs/config.md',
      'docs/egress-reference.md',
      'docs/control.md',
      'docs/errors.md',
      'docs/programs.md',
      'docs/python.md',
      'examples/README.md',
      'docs/protocol.md',
      'docs/glossary.md',
    ],
  },
  {
    title: 'Operate',
    documents: [
      'docs/services.md',
      'docs/web.md',
      'docs/operations.md',
      'docs/kubernetes.md',
      'docs/security.md',
      'SECURITY.md',
      'docs/reliability.md',
      'docs/troubleshooting.md',
      'docs/doctor.md',
      'docs/performance.md',
      'CHANGELOG.md',
    ],
  },
  {
    title: 'Contribute',
    documents: [
      'CONTRIBUTING.md',
      'docs/architecture.md',
      'docs/testing.md',
      'docs/releasing.md',
      'docs/performance-notebook.md',
    ],
  },
];

/** A folder whose documents form a collapsed section, in the order of their file names; its README.md lists them. */
export interface Collection {
  title: string;
  folder: string;
}

export const COLLECTIONS: readonly Collection[] = [{ title: 'Decisions', folder: 'docs/decisions' }];
