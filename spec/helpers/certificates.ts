/** Certificates made for a test with openssl(1). */
import { execFileSync } from 'node:child_process';

/** Makes a certificate with its own authority `NAME-ca.pem`, as `NAME.pem` and `NAME.key` in a folder; `hosts` are its names. */
export function makeCertificate(folder: string, name: string, hosts: readonly string[] = []): void {
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: folder, stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const ca = [`${name}-ca.pem`, `${name}-ca.key`] as const;
  openssl('req', '-x509', ...newKey, '-keyout', ca[1], '-out', ca[0], '-subj', `/CN=${name}-ca`);
  const request = ['-keyout', `${name}.key`, '-out', `${name}.pem`, '-subj', `/CN=${name}`];
  const names = hosts.map((host) => `DNS:${host}`).join(',');
  const extensions = ['basicConstraints=CA:FALSE', ...(names === '' ? [] : [`subjectAltName=${names}`])];
  openssl(
    ...['req', '-x509', ...newKey, ...request, '-CA', ca[0], '-CAkey', ca[1]],
    ...extensions.flatMap((each) => ['-addext', each]),
  );
}
