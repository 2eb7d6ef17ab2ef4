package redisconn

import "strings"

// slotOf is the slot of a channel or key in a Cluster, 0 to 16383: CRC-16 of the
// name, or of what stands between the first "{" and the "}" after it, if that is
// not empty.
func slotOf(name string) int {
	if _, rest, ok := strings.Cut(name, "{"); ok {
		if tag, _, ok := strings.Cut(rest, "}"); ok && tag != "" {
			name = tag
		}
	}
	var crc uint16 // XMODEM: polynomial 0x1021
	for i := range len(name) {
		crc ^= uint16(name[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % 16384)
}
