package redisclient

// slots is the number of hash slots of a Redis Cluster. A master has some of them.
const slots = 16384

// partitions is into how many ranges of slots a cluster is cut: masters fail one by one,
// and each has a range.
const partitions = 16

// Partitions returns how many parts of the data may fail by themselves: 1, or 16 ranges of
// slots of a cluster.
func (c *Client) Partitions() int {
	if c.IsCluster() {
		return partitions
	}
	return 1
}

// Partition returns the part that has a key, 0 to Partitions()-1. The key must have a hash
// tag, as Slot says.
func (c *Client) Partition(key string) int {
	if c.Partitions() == 1 {
		return 0
	}
	return int(Slot(key)) / (slots / partitions)
}

// Slot returns the slot of a key with a hash tag, 0 to 16383: the CRC16 of what stands
// between the first { and the } after it (the Redis Cluster specification, "Key
// distribution model"). A key without a tag panics.
func Slot(key string) uint16 {
	open := 0
	for key[open] != '{' {
		open++
	}
	var crc uint16
	for i := open + 1; key[i] != '}'; i++ {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}
