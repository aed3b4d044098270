/** The numbers of SFTP version 3 (draft-ietf-secsh-filexfer-02), and the limits of the service `sftp`. */

export const SFTP_SERVICE = 'sftp';

export const SFTP_VERSION = 3;

/** The types of packets. */
export const SFTP_KIND = {
  ...{ INIT: 1, VERSION: 2, OPEN: 3, CLOSE: 4, READ: 5, WRITE: 6, LSTAT: 7, FSTAT: 8, SETSTAT: 9, FSETSTAT: 10 },
  ...{ OPENDIR: 11, READDIR: 12, REMOVE: 13, MKDIR: 14, RMDIR: 15, REALPATH: 16, STAT: 17, RENAME: 18 },
  ...{ READLINK: 19, SYMLINK: 20, STATUS: 101, HANDLE: 102, DATA: 103, NAME: 104, ATTRS: 105 },
  ...{ EXTENDED: 200, EXTENDED_REPLY: 201 },
} as const;

/** The codes of STATUS. */
export const SFTP_STATUS = {
  ...{ OK: 0, EOF: 1, NO_SUCH_FILE: 2, PERMISSION_DENIED: 3, FAILURE: 4, BAD_MESSAGE: 5, OP_UNSUPPORTED: 8 },
} as const;

/** The extensions that the service announces, with their versions. */
export const SFTP_EXTENSIONS = {
  'posix-rename@openssh.com': '1',
  'statvfs@openssh.com': '2',
  'fstatvfs@openssh.com': '2',
  'hardlink@openssh.com': '1',
  'fsync@openssh.com': '1',
  'limits@openssh.com': '1',
} as const;

/** The longest packet that clients may send, as announced; a little more is accepted, for headers. */
export const MAX_PACKET_BYTES = 262_144;
export const SPARE_BYTES = 1024;

/** The most that one READ returns or one WRITE writes. */
export const MAX_DATA_BYTES = MAX_PACKET_BYTES - SPARE_BYTES;

/** Extended attributes of a request, which are ignored. */
export const MAX_EXTENDED = 256;

/** Of one stream. */
export const MAX_HANDLES = 64;

/** Streams of a channel at a time. */
export const MAX_SFTP_STREAMS = 64;

/** Entries of a folder in one answer, which takes at most 64 KiB. */
export const ENTRIES_AT_ONCE = 64;
