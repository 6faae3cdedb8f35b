# SPDX-License-Identifier: GPL-2.0-or-later
#
# The devices of our QEMU: scripts/qemu-build puts the list, less what the tree
# hasn't got, into configs/devices/x86_64-softmmu/coiommu.mak.  It is for both
# the VMM that assigns devices through coIOMMU and the machine in which the
# nested rig plays a host: hence emulated IOMMUs and PCIe devices to assign.

CONFIG_Q35=y
# to show that coiommu refuses it: it has no PCI Express
CONFIG_I440FX=y
CONFIG_HPET=y
CONFIG_SERIAL_ISA=y
CONFIG_ISA_DEBUG=y
# memory encryption, which coiommu refuses
CONFIG_SEV=y

# PCIe topology
CONFIG_PCI_BRIDGE=y
CONFIG_PCIE_PORT=y
CONFIG_PCIE_PCI_BRIDGE=y
CONFIG_PXB=y
# expander bridges don't link without these
CONFIG_CXL=y
CONFIG_ACPI_CXL=y
CONFIG_CXL_MEM_DEVICE=y

# Assignment, and IOMMUs for the rig's host
CONFIG_COIOMMU=y
CONFIG_VFIO_PCI=y
CONFIG_VFIO_USER=y
CONFIG_IOMMUFD=y
CONFIG_VTD=y
CONFIG_AMD_IOMMU=y
CONFIG_VIRTIO_IOMMU=y

# Devices that do DMA
CONFIG_NVME_PCI=y
# NVMe doesn't link without it
CONFIG_SPDM_SOCKET=y
CONFIG_E1000_PCI=y
CONFIG_E1000E_PCI_EXPRESS=y
CONFIG_IGB_PCI_EXPRESS=y
CONFIG_EDU=y

# Paravirtual devices
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_BALLOON=y
CONFIG_VIRTIO_MEM=y
CONFIG_FSDEV_9P=y
CONFIG_VIRTIO_9P=y
