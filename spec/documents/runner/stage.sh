# Run as the first process of new namespaces: gives a scene its own folders, then runs the words after the first three.
# $1 is an empty folder to mount the scene's file system on, $2 the project's folder, $3 the folder of Node.
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
# The home of root, or of any user, must be the scene's: ssh takes it from the user database, not from HOME.
sed -i "s|^\([^:]*:[^:]*:$(id -u):[^:]*:[^:]*:\)[^:]*|\1/tmp/home|" etc/passwd
mount --rbind "$project" kept/project
mount --rbind "$node" kept/node
for name in vproxy vproxy-storage; do ln -s "$project/dist/program/$name.cjs" "usr/bin/$name"; done
ln -s "$project/packaging/vproxy-ssh" usr/bin/vproxy-ssh
# Where the packages have them.
mkdir -p usr/share/doc/vproxy
ln -s "$project/examples" usr/share/doc/vproxy/examples
# Installed programs and links of utilities leave no trace.
mount -t overlay -o "lowerdir=/usr,upperdir=usr,workdir=usr-work" overlay /usr
for folder in etc run tmp srv; do
  mkdir -p "/$folder" 2> /dev/null || true
  mount --bind "$folder" "/$folder"
done
mount --bind log /var/log
# The clone, or Node, may be in a folder that the scene replaces.
[ -e "$project" ] || { mkdir -p "$project"; mount --rbind kept/project "$project"; }
[ -e "$node" ] || { mkdir -p "$node"; mount --rbind kept/node "$node"; }
ip link set lo up
cd /tmp/home
export HOME=/tmp/home PATH="$PATH:/usr/sbin:/sbin" TMPDIR=/tmp
[ "$(command -v node)" -ef "$node/bin/node" ] || PATH="$node/bin:$PATH"
[ "$(command -v vproxy)" = /usr/bin/vproxy ] || PATH="/usr/bin:$PATH"
"$@"
# No exec: this shell must stay, to adopt orphaned processes.
exit $?
