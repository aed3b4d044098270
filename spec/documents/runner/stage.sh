# Run in new namespaces as the first process: gives a scene folders of its own, then runs the words behind the first three.
# $1 is an empty folder that the scene's file system is mounted on, $2 the project's folder, $3 the folder that Node is in.
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$1"
project=$2 node=$3
cd "$1"
shift 3
mkdir etc run tmp srv log kept kept/project kept/node usr usr-work usr/bin usr/sbin
chmod 1777 tmp
cp -a /etc/. etc/ 2> /dev/null || true
mkdir -p etc/vproxy run/lock run/sshd tmp/home
# What a document does as root, or as any user, it does at home: ssh asks the table of users for it, and not HOME.
sed -i "s|^\([^:]*:[^:]*:$(id -u):[^:]*:[^:]*:\)[^:]*|\1/tmp/home|" etc/passwd
mount --rbind "$project" kept/project
mount --rbind "$node" kept/node
for name in vproxy vproxy-storage; do ln -s "$project/dist/program/$name.cjs" "usr/bin/$name"; done
# Programs are installed, and links of utilities made, without a trace.
mount -t overlay -o "lowerdir=/usr,upperdir=usr,workdir=usr-work" overlay /usr
for folder in etc run tmp srv; do
  mkdir -p "/$folder" 2> /dev/null || true
  mount --bind "$folder" "/$folder"
done
mount --bind log /var/log
# A clone may be in a folder that a scene has anew, and so may Node.
[ -e "$project" ] || { mkdir -p "$project"; mount --rbind kept/project "$project"; }
[ -e "$node" ] || { mkdir -p "$node"; mount --rbind kept/node "$node"; }
ip link set lo up
cd /tmp/home
export HOME=/tmp/home PATH="$PATH:/usr/sbin:/sbin" TMPDIR=/tmp
[ "$(command -v node)" -ef "$node/bin/node" ] || PATH="$node/bin:$PATH"
[ "$(command -v vproxy)" = /usr/bin/vproxy ] || PATH="/usr/bin:$PATH"
"$@"
# Not the last word of this shell: it has to stay, as the one that inherits what processes leave behind.
exit $?
