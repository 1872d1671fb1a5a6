package host

import (
	"errors"

	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/disk"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
	"github.com/shirou/gopsutil/v3/net"
)

// Vitals are the raw figures of a machine, for reports rather than decisions.
type Vitals struct {
	CPU                   float64 // busy share since the previous call, percent
	Load1                 float64 // runnable tasks, mean of one minute
	MemoryUsed            uint64  // bytes
	Memory, Disk          float64 // used share, percent; Disk is the root file system
	DiskRead, DiskWritten uint64  // bytes since boot, all disks
	NetReceived, NetSent  uint64  // bytes since boot, all interfaces
}

// ReadVitals reads everything once. Values that cannot be read stay 0 and are named in the error; the others are valid.
func ReadVitals() (Vitals, error) {
	var v Vitals
	busy, err := cpu.Percent(0, false)
	if len(busy) > 0 {
		v.CPU = busy[0]
	}
	avg, loadErr := load.Avg()
	if loadErr == nil {
		v.Load1 = avg.Load1
	}
	memory, memErr := mem.VirtualMemory()
	if memErr == nil {
		v.MemoryUsed, v.Memory = memory.Used, memory.UsedPercent
	}
	return v, errors.Join(err, loadErr, memErr, v.readDisk(), v.readNet())
}

func (v *Vitals) readDisk() error {
	usage, err := disk.Usage("/")
	if err == nil {
		v.Disk = usage.UsedPercent
	}
	counters, ioErr := disk.IOCounters()
	for _, c := range counters {
		v.DiskRead += c.ReadBytes
		v.DiskWritten += c.WriteBytes
	}
	return errors.Join(err, ioErr)
}

func (v *Vitals) readNet() error {
	counters, err := net.IOCounters(false)
	if err == nil && len(counters) > 0 {
		v.NetReceived, v.NetSent = counters[0].BytesRecv, counters[0].BytesSent
	}
	return err
}
