/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events, below /sys/kernel/tracing/events/coiommu:
 *
 *   coiommu_map, coiommu_unmap   a piece of memory as the PCI function sees it
 *   coiommu_request              each doorbell, with how long it took
 *   coiommu_attach, _detach      when a device's DMA begins to be tracked, ends
 *
 * A device is named by its number and not by its string: that is cheap to
 * record, and the same on all kernels.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM coiommu

#if !defined(COIOMMU_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define COIOMMU_TRACE_H

#include <linux/pci.h>
#include <linux/tracepoint.h>

#include "coiommu_abi.h"

#ifndef COIOMMU_TRACE_HELPERS
#define COIOMMU_TRACE_HELPERS

static inline u32 coiommu_trace_endpoint(struct pci_dev *pdev)
{
	return COIOMMU_ENDPOINT(pci_domain_nr(pdev->bus), pdev->bus->number,
				pdev->devfn);
}

#endif /* COIOMMU_TRACE_HELPERS */

DECLARE_EVENT_CLASS(coiommu_mapping,
	TP_PROTO(struct pci_dev *pdev, u64 addr, size_t size),
	TP_ARGS(pdev, addr, size),
	TP_STRUCT__entry(
		__field(u64, addr)
		__field(u64, size)
		__field(u32, endpoint)
	),
	TP_fast_assign(
		__entry->addr = addr;
		__entry->size = size;
		__entry->endpoint = coiommu_trace_endpoint(pdev);
	),
	TP_printk("%04x:%02x:%02x.%d addr=0x%llx size=%llu",
		  __entry->endpoint >> 16, __entry->endpoint >> 8 & 0xff,
		  PCI_SLOT(__entry->endpoint & 0xff),
		  PCI_FUNC(__entry->endpoint & 0xff),
		  __entry->addr, __entry->size)
);

/* Counted and pinned: from here on the device may use the address. */
DEFINE_EVENT(coiommu_mapping, coiommu_map,
	TP_PROTO(struct pci_dev *pdev, u64 addr, size_t size),
	TP_ARGS(pdev, addr, size)
);

DEFINE_EVENT(coiommu_mapping, coiommu_unmap,
	TP_PROTO(struct pci_dev *pdev, u64 addr, size_t size),
	TP_ARGS(pdev, addr, size)
);

/*
 * @pages and @count are of a PIN, @endpoint of the others.  @ns is the time from
 * the doorbell write to its return.
 */
TRACE_EVENT(coiommu_request,
	TP_PROTO(const struct coiommu_request *req, u64 pages, u32 status,
		 u64 ns),
	TP_ARGS(req, pages, status, ns),
	TP_STRUCT__entry(
		__field(u64, pages)
		__field(u64, ns)
		__field(u32, opcode)
		__field(u32, count)
		__field(u32, endpoint)
		__field(u32, status)
	),
	TP_fast_assign(
		__entry->pages = pages;
		__entry->ns = ns;
		__entry->opcode = le32_to_cpu(req->opcode);
		__entry->count = le32_to_cpu(req->count);
		__entry->endpoint = le32_to_cpu(req->endpoint);
		__entry->status = status;
	),
	TP_printk("%s endpoint=%04x:%02x:%02x.%d ranges=%u pages=%llu status=%d ns=%llu",
		  __print_symbolic(__entry->opcode,
				   { COIOMMU_OP_PROBE, "probe" },
				   { COIOMMU_OP_ATTACH, "attach" },
				   { COIOMMU_OP_DETACH, "detach" },
				   { COIOMMU_OP_PIN, "pin" }),
		  __entry->endpoint >> 16, __entry->endpoint >> 8 & 0xff,
		  PCI_SLOT(__entry->endpoint & 0xff),
		  PCI_FUNC(__entry->endpoint & 0xff),
		  __entry->count, __entry->pages, (s32)__entry->status, __entry->ns)
);

DECLARE_EVENT_CLASS(coiommu_tracking,
	TP_PROTO(struct pci_dev *pdev, u32 status),
	TP_ARGS(pdev, status),
	TP_STRUCT__entry(
		__field(u32, endpoint)
		__field(u32, status)
	),
	TP_fast_assign(
		__entry->endpoint = coiommu_trace_endpoint(pdev);
		__entry->status = status;
	),
	TP_printk("%04x:%02x:%02x.%d status=%d",
		  __entry->endpoint >> 16, __entry->endpoint >> 8 & 0xff,
		  PCI_SLOT(__entry->endpoint & 0xff),
		  PCI_FUNC(__entry->endpoint & 0xff),
		  (s32)__entry->status)
);

DEFINE_EVENT(coiommu_tracking, coiommu_attach,
	TP_PROTO(struct pci_dev *pdev, u32 status),
	TP_ARGS(pdev, status)
);

DEFINE_EVENT(coiommu_tracking, coiommu_detach,
	TP_PROTO(struct pci_dev *pdev, u32 status),
	TP_ARGS(pdev, status)
);

#endif /* COIOMMU_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE coiommu_trace
#include <trace/define_trace.h>
