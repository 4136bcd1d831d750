#!/bin/bash
# dracut(8) module. It installs the rule that recognises the VF of a pair, because udev
# names NICs in the initramfs already; packaging/debian/guestagent.initramfs-hook does the
# same for initramfs-tools. dracut's udev-rules module copies only the rules in its own list.

check() {
	return 0
}

depends() {
	echo udev-rules
}

install() {
	inst_rules 70-guestagent.rules 95-guestagent-name.rules
	inst_multiple /usr/lib/udev/guestagent-port
	inst_multiple -o \
		/usr/lib/systemd/network/05-guestagent-bond.link \
		/usr/lib/systemd/network/05-guestagent-port.link \
		/usr/lib/systemd/network/05-guestagent-port.network
}
