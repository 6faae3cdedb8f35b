/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one thing that QEMU's own code calls; see viot.c.
 */
#ifndef COIOMMU_VIOT_H
#define COIOMMU_VIOT_H

#include "hw/acpi/aml-build.h"

/*
 * Add the table VIOT, if @iommu, the machine's IOMMU or NULL, is a coIOMMU that
 * wants one.  @offsets, @data, @linker: the tables being built.  Called under
 * the BQL when the machine is complete, and again when firmware fetches the
 * tables, which is after it has numbered the buses.
 */
void coiommu_add_viot(DeviceState *iommu, GArray *offsets, GArray *data,
                      BIOSLinker *linker, const char *oem_id,
                      const char *oem_table_id);

#endif /* COIOMMU_VIOT_H */
