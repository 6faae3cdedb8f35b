// SPDX-License-Identifier: GPL-2.0
/*
 * What Intel's VMD driver does: a function that makes a PCI domain of its own,
 * beyond those that an endpoint number can name, with devices whose DMA has the
 * function's requester ID.  Here edu is the function, and one device without
 * BARs is in the domain; its driver maps with the device and has edu copy.
 */
#include <linux/module.h>

#include "edu.h"

#if defined(CONFIG_X86) && IS_ENABLED(CONFIG_VMD)

#define VMD_DOMAIN	0x10000
#define VMD_DEVICE	0x11e9

static u32 vmd_config[16];

static struct pci_sysdata vmd_sysdata = {
	.domain	= VMD_DOMAIN,
	.node	= NUMA_NO_NODE,
};

/* Device 0 of any bus; the rest of its configuration is 0. */
static int vmd_read(struct pci_bus *bus, unsigned int devfn, int where,
		    int size, u32 *value)
{
	const u32 reg = where / 4;

	if (devfn)
		return PCIBIOS_DEVICE_NOT_FOUND;
	*value = reg < ARRAY_SIZE(vmd_config) ? vmd_config[reg] : 0;
	*value >>= 8 * (where % 4);
	if (size < 4)
		*value &= BIT(8 * size) - 1;
	return PCIBIOS_SUCCESSFUL;
}

static int vmd_write(struct pci_bus *bus, unsigned int devfn, int where,
		     int size, u32 value)
{
	return devfn ? PCIBIOS_DEVICE_NOT_FOUND : PCIBIOS_SUCCESSFUL;
}

static struct pci_ops vmd_ops = {
	.read	= vmd_read,
	.write	= vmd_write,
};

static int vmd_child_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu = pci_get_drvdata(vmd_sysdata.vmd_dev);

	return edu->child_result =
		dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(32)) ?:
		edu_child_use(edu, &pdev->dev);
}

static const struct pci_device_id vmd_ids[] = {
	{ PCI_DEVICE(0x1234, VMD_DEVICE) },
	{ }
};

static struct pci_driver vmd_driver = {
	.name		= "edu_vmd_child",
	.id_table	= vmd_ids,
	.probe		= vmd_child_probe,
};

int test_child_vmd(struct edu *edu)
{
	LIST_HEAD(resources);
	struct pci_bus *bus;

	vmd_config[PCI_VENDOR_ID / 4] = VMD_DEVICE << 16 | 0x1234;
	vmd_config[PCI_CLASS_REVISION / 4] = 0xff000000;
	vmd_sysdata.vmd_dev = edu->pdev;
	edu->child_result = -ENODEV;
	bus = pci_create_root_bus(&edu->pdev->dev, 0, &vmd_ops, &vmd_sysdata,
				  &resources);
	if (!bus)
		return -ENOMEM;
	pci_scan_child_bus(bus);
	pci_bus_add_devices(bus);
	pci_stop_root_bus(bus);
	pci_remove_root_bus(bus);
	return edu->child_result;
}

int edu_vmd_init(void)
{
	return pci_register_driver(&vmd_driver);
}

void edu_vmd_exit(void)
{
	pci_unregister_driver(&vmd_driver);
}

#else

int test_child_vmd(struct edu *edu)
{
	return FAIL(edu, "child: this kernel has no VMD\n");
}

int edu_vmd_init(void)
{
	return 0;
}

void edu_vmd_exit(void) { }

#endif
