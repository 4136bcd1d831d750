#!/bin/bash
# dracut(8) module: the rule that tells the VF of a pair, for NICs that udev meets in the
# initramfs; see packaging/debian/guestagent.initramfs-hook, which does the same for
# initramfs-tools. The udev-rules module copies no rule by itself that it does not know.

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
