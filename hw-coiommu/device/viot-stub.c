/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For targets without the device.
 */
#include "qemu/osdep.h"
#include "viot.h"

void coiommu_add_viot(DeviceState *iommu, GArray *offsets, GArray *data,
                      BIOSLinker *linker, const char *oem_id,
                      const char *oem_table_id)
{
}
