# An image built by Packer over the vproxy channel, without a network or ssh: see docs/recipes.md. Check it with packer validate.
source "qemu" "image" {
  iso_url          = "debian-with-vproxy.qcow2"
  iso_checksum     = "none"
  disk_image       = true
  format           = "qcow2"
  # Without a communicator, Packer waits until the machine is off: the last provisioner shuts it down.
  communicator     = "none"
  shutdown_timeout = "1h"
  qemuargs = [
    ["-device", "virtio-serial-pci"],
    ["-chardev", "socket,id=vproxy,path=/run/vproxy/packer.sock,server=on,wait=off"],
    ["-device", "virtserialport,chardev=vproxy,name=org.vproxy.0"],
  ]
}

build {
  sources = ["source.qemu.image"]

  provisioner "shell-local" {
    environment_vars = ["VPROXY_SOCKET=/run/vproxy/packer.control"]
    inline = [
      "vproxy wait --service exec --timeout 30m",
      "vproxy copy files vm1:/srv",
      "vproxy exec -n sh -eu /srv/files/install.sh",
      "vproxy exec -n systemd-run --on-active=2 systemctl poweroff",
    ]
  }
}
